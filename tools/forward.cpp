// forward: one micro-batch through a checkpoint, everything it computes written to a file. For
// comparison with other implementations.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/cpu_module.h"
#include "model/model_files.h"
#include "runtime/command_line.h"
#include "runtime/communicator.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/plural.h"
#include "runtime/program.h"
#include "tools/output_file.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/backend_options.h"
#include "train/step/device_batch.h"
#include "train/tasks/model_outputs.h"

namespace {

namespace fs = std::filesystem;
using bert::Batch;
using bert::Tensor;
using Json = nlohmann::json;

constexpr const char* kHelp =
    "Runs one batch through a model, without dropout, and writes what it computes.\n\n"
    "The input is JSON: {\"sequences\": [...]}, or the list alone, each sequence an object\n"
    "  input_ids            ids, masks applied, with [CLS] and [SEP]\n"
    "  token_type_ids       as many, 0 if left out\n"
    "  labels               as many: the original id where it is to be predicted, -100 elsewhere;\n"
    "                       nothing is predicted if left out\n"
    "  next_sentence_label  0: B follows A, 1: it does not; wanted in every sequence or in none,\n"
    "                       by a model with that head only\n"
    "Sequences are packed: T tokens, M masked tokens, B sequences.\n\n"
    "The output is safetensors: hidden_states.0 (the embeddings) to hidden_states.L [T, C], and\n"
    "of the heads that the model has\n"
    "  pooled        [B, C]\n"
    "  mlm_logits    [M, V], mlm_loss [1] (mean over M)\n"
    "  nsp_logits    [B, 2], with labels nsp_loss [1] (mean over B)\n"
    "  logits        of a task: [B, outputs], of words [M, outputs], of answers [T, 2]\n"
    "  loss [1]      the sum of the losses above; with --gradients grad.<Hugging Face's name> of "
    "it\n"
    "In bf16, states, logits and what is pooled are written as bf16.";

struct Arguments {
  std::string checkpoint, input, output;
  bert::RuntimeConfig runtime;
  bool gradients = false;
};

// --- Input --------------------------------------------------------------------------------------
// One sequence of the input; errors name the file, the sequence and the key.
class SequenceReader {
 public:
  SequenceReader(const Json& sequence, std::string where)
      : sequence_(sequence), where_(std::move(where)) {
    if (!sequence.is_object()) {
      bert::throw_input_error("{} is not an object with input_ids", where_);
    }
    for (const auto& [key, value] : sequence.items()) {
      if (key != "input_ids" && key != "token_type_ids" && key != "labels" &&
          key != "next_sentence_label") {
        bert::throw_input_error(
            "{}: unknown key {}, expected input_ids, token_type_ids, labels or "
            "next_sentence_label",
            where_, key);
      }
    }
  }

  bool has(const char* key) const { return sequence_.contains(key); }

  // `also`: a value that is allowed besides [0, end).
  std::vector<std::int32_t> integers(const char* key, std::int64_t end,
                                     std::int64_t also = 0) const {
    if (!has(key) || !sequence_[key].is_array()) {
      bert::throw_input_error("{}: expected a list {} of integers", where_, key);
    }
    std::vector<std::int32_t> values;
    for (const Json& value : sequence_[key]) {
      values.push_back(
          integer(value, fmt::format("{}: {}[{}]", where_, key, values.size()), end, also));
    }
    return values;
  }
  std::int32_t integer(const char* key, std::int64_t end) const {
    return integer(sequence_[key], fmt::format("{}: {}", where_, key), end, 0);
  }

 private:
  static std::int32_t integer(const Json& value, const std::string& where, std::int64_t end,
                              std::int64_t also) {
    const bool fits = value.is_number_integer() &&
                      (value.is_number_unsigned()
                           ? value.get<std::uint64_t>() < static_cast<std::uint64_t>(end)
                           : value.get<std::int64_t>() >= 0 && value.get<std::int64_t>() < end);
    const bool is_also = also != 0 && value.is_number_integer() && value == also;
    if (!fits && !is_also) {
      bert::throw_input_error("{} is {}, expected an integer from 0 to {}{}", where,
                              bert::one_line(value), end - 1,
                              also != 0 ? fmt::format(" or {}", also) : "");
    }
    return value.get<std::int32_t>();
  }

  const Json& sequence_;
  std::string where_;
};

void append(const SequenceReader& reader, const std::string& where, const bert::BertConfig& config,
            Batch& batch) {
  const std::vector<std::int32_t> ids = reader.integers("input_ids", config.vocab_size);
  if (ids.empty() || static_cast<std::int64_t>(ids.size()) > config.max_position_embeddings) {
    bert::throw_input_error("{}: input_ids has {}, the model takes 1 to {}", where,
                            bert::plural(ids.size(), "id"), config.max_position_embeddings);
  }
  std::vector<std::int32_t> types(ids.size()), labels(ids.size(), bert::kIgnoreIndex);
  if (reader.has("token_type_ids")) {
    types = reader.integers("token_type_ids", config.type_vocab_size);
  }
  if (reader.has("labels")) labels = reader.integers("labels", config.vocab_size, -100);
  if (types.size() != ids.size() || labels.size() != ids.size()) {
    bert::throw_input_error(
        "{}: {} input_ids, {} token_type_ids and {} labels, expected as many of each", where,
        ids.size(), types.size(), labels.size());
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (labels[i] != bert::kIgnoreIndex) {
      batch.masked_rows.push_back(static_cast<std::int32_t>(batch.num_tokens()));
      batch.masked_targets.push_back(labels[i]);
    }
    batch.input_ids.push_back(ids[i]);
    batch.token_type_ids.push_back(types[i]);
    batch.position_ids.push_back(static_cast<std::int32_t>(i));
  }
  batch.sequence_index.push_back(static_cast<std::uint32_t>(batch.num_sequences()));
  batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.num_tokens()));
  if (reader.has("next_sentence_label")) {
    batch.sequence_labels.push_back(reader.integer("next_sentence_label", 2));
  }
}

Batch read_batch(const fs::path& path, const bert::ModelDescription& model) {
  const auto json = bert::parse_json<Json>(bert::read_file(path), path.string());
  const Json& list = json.is_object() && json.contains("sequences") ? json["sequences"] : json;
  if (!list.is_array() || list.empty()) {
    bert::throw_input_error("{}: expected a list of sequences, or {{\"sequences\": [...]}}",
                            path.string());
  }
  Batch batch;
  batch.cu_seqlens = {0};
  for (const Json& sequence : list) {
    const std::string where = fmt::format("{}: sequence {}", path.string(), batch.num_sequences());
    append(SequenceReader(sequence, where), where, model.config, batch);
  }
  const std::size_t labelled = batch.sequence_labels.size();
  if (labelled != 0 && labelled != list.size()) {
    bert::throw_input_error(
        "{}: {} of {} sequences have a next_sentence_label, expected all or none", path.string(),
        labelled, list.size());
  }
  if (labelled != 0 && model.heads != bert::BertForPretraining::Heads::mlm_and_nsp) {
    bert::throw_input_error("{}: next_sentence_label, but the model has no next-sentence head",
                            path.string());
  }
  return batch;
}

// --- Output -------------------------------------------------------------------------------------
// Tensors copied to host memory as the model computes them.
class Output {
 public:
  explicit Output(bert::Device& device) : device_(device) {}

  // The first `columns` elements of the first `rows` rows of the matrix `tensor`.
  void add(const std::string& name, const Tensor& tensor, std::int64_t rows, std::int64_t columns) {
    const Tensor part = tensor.slice(0, rows);
    std::vector<std::byte>& bytes = memory_.emplace_back(part.bytes());
    device_.copy_to_host(bytes.data(), part.raw(), part.bytes());
    const std::size_t element = bert::dtype_size(part.dtype());
    const std::size_t kept = static_cast<std::size_t>(columns) * element;
    const std::size_t stride = static_cast<std::size_t>(part.dim(1)) * element;
    for (std::size_t r = 1; kept < stride && r < static_cast<std::size_t>(rows); ++r) {
      std::memmove(bytes.data() + r * kept, bytes.data() + r * stride, kept);
    }
    views_.push_back({name, part.dtype(), {rows, columns}, bytes.data()});
  }
  void add(const std::string& name, double value) {
    std::vector<std::byte>& bytes = memory_.emplace_back(sizeof value);
    std::memcpy(bytes.data(), &value, sizeof value);
    views_.push_back({name, bert::DType::f64, {1}, bytes.data()});
  }
  void add_gradients(const bert::ParameterStore& store) {
    bert::copy_flat_to_host(store, store.gradients(), memory_.emplace_back());
    bert::append_views(store, memory_.back(), "grad.", views_);
  }
  void write(const fs::path& path) const { bert::write_safetensors(path, views_); }
  std::size_t size() const { return views_.size(); }

 private:
  bert::Device& device_;
  std::vector<bert::SafetensorsView> views_;
  std::vector<std::vector<std::byte>> memory_;
};

double inverse(std::int64_t count) { return count > 0 ? 1.0 / static_cast<double>(count) : 0.0; }

bool has_pretraining_loss(const bert::BertModel& model) {
  return dynamic_cast<const bert::BertForPretraining*>(&model) != nullptr;
}

// The losses of pre-training, and their gradients. Overwrites the logits when those are asked for.
void compute_loss(bert::BertModel& model, bert::Device& device, const bert::ModelInput& input,
                  const Batch& batch, bool gradients, Output& output) {
  const bool with_nsp_loss = !batch.sequence_labels.empty();
  bert::ModelLoss loss;
  loss.main_scale = inverse(batch.num_masked());
  loss.nsp_scale = with_nsp_loss ? inverse(batch.num_sequences()) : 0.0;
  const bert::DeviceBuffer on_device(device, sizeof loss);
  device.copy_from_host(on_device.data(), &loss, sizeof loss);
  model.loss(input, static_cast<bert::ModelLoss*>(on_device.data()), gradients);
  device.copy_to_host(&loss, on_device.data(), sizeof loss);
  const double mlm = loss.main.loss * loss.main_scale, nsp = loss.nsp.loss * loss.nsp_scale;
  output.add("mlm_loss", mlm);
  if (with_nsp_loss) output.add("nsp_loss", nsp);
  output.add("loss", mlm + (with_nsp_loss ? nsp : 0.0));
  if (gradients) {
    model.backward(input);
    output.add_gradients(model.parameters());
  }
}

void compute(bert::BertModel& model, bert::Backend& backend, const Batch& batch, bool gradients,
             Output& output) {
  bert::DeviceBatch memory(*backend.device, *backend.ops, model.capacity(), model);
  const bert::ModelInput& input = memory.upload(batch);
  model.forward(input, nullptr);
  for (const bert::ModelOutput& each : bert::model_outputs(model, batch)) {
    output.add(each.name, each.tensor, each.rows, each.columns);
  }
  if (has_pretraining_loss(model))
    compute_loss(model, *backend.device, input, batch, gradients, output);
}

int run(const Arguments& arguments) {
  bert::refuse_to_replace(arguments.output, {arguments.input});
  const fs::path checkpoint = arguments.checkpoint;
  const bert::ModelDescription description = bert::describe_model(checkpoint);
  bert::verify_model_files(checkpoint);
  const Batch batch = read_batch(arguments.input, description);
  bert::Backend backend =
      bert::make_backend(arguments.runtime, *bert::make_local_communicator(), bert::backend_option);

  std::int64_t longest = 1;
  for (std::size_t b = 1; b < batch.cu_seqlens.size(); ++b) {
    longest = std::max<std::int64_t>(longest, batch.cu_seqlens[b] - batch.cu_seqlens[b - 1]);
  }
  const std::unique_ptr<bert::BertModel> model = bert::make_model(description);
  if (arguments.gradients && !has_pretraining_loss(*model)) {
    bert::throw_input_error("--gradients: {} has no head for masked tokens and so no loss here",
                            checkpoint.string());
  }
  model->allocate(*backend.device, *backend.ops,
                  {.tokens = batch.num_tokens(),
                   .sequences = batch.num_sequences(),
                   .masked = std::max<std::int64_t>(1, batch.num_masked()),
                   .max_seqlen = longest},
                  arguments.gradients);
  bert::load_parameters(*bert::open_weights(checkpoint), model->parameters());
  Output output(*backend.device);
  compute(*model, backend, batch, arguments.gradients, output);
  output.write(arguments.output);
  std::cout << fmt::format(
      "{}: {} of {} in {}, {} masked ({})\n", arguments.output,
      bert::plural(output.size(), "tensor"), bert::plural(batch.num_tokens(), "token"),
      bert::plural(batch.num_sequences(), "sequence"), batch.num_masked(), backend.description());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] {
    bert::CommandLine line(kHelp, "forward");
    Arguments arguments;
    line.add("--checkpoint", arguments.checkpoint, "a folder with config.json and weights")
        .required();
    line.add("--input", arguments.input, "the batch, JSON").required();
    line.add("--output", arguments.output, "the file to be written, safetensors").required();
    line.add("--gradients", arguments.gradients, "also write the gradient of loss");
    bert::add_backend_options(line, arguments.runtime);
    if (const auto done = line.parse(argc, argv)) return *done;
    return run(arguments);
  });
}
