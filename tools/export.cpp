// export: a model as a folder that Hugging Face's tools load: nothing of the optimizer, the numbers
// in the type asked for. What was written is loaded again and must compute what the model does.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/tokenization/tokenizer.h"
#include "data/tokenization/wordpiece_tokenizer.h"
#include "kernels/cpu_module.h"
#include "model/model_files.h"
#include "runtime/command_line.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/output_folder.h"
#include "runtime/philox.h"
#include "runtime/plural.h"
#include "runtime/program.h"
#include "runtime/tensor_copy.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/backend.h"
#include "train/step/device_batch.h"
#include "train/tasks/model_outputs.h"

namespace {

namespace fs = std::filesystem;
using bert::Batch;
using Json = nlohmann::ordered_json;

constexpr const char* kHelp =
    "Writes a model as a folder that Hugging Face's from_pretrained loads: config.json,\n"
    "model.safetensors and the tokenizer's files. The folder is loaded again and computes a probe\n"
    "batch: every number must be the one that the model itself gives, or there is no folder.\n"
    "Computes in fp32 on the CPU.";

struct Arguments {
  std::string checkpoint, output, dtype = "f32";
  bool json = false;
};

// A few sequences of random tokens, the longest as long as a short text, one row in seven masked.
Batch probe_batch(const bert::BertConfig& config) {
  bert::PhiloxStream random(0, 0x50524f42, 0);  // "PROB"
  const auto below = [&](std::int64_t end) {
    return static_cast<std::int32_t>(random.next_below(static_cast<std::uint32_t>(end)));
  };
  Batch batch;
  batch.cu_seqlens = {0};
  for (const std::int64_t length : {1, 7, 24, 40}) {
    for (std::int64_t i = 0; i < std::min(length, config.max_position_embeddings); ++i) {
      if (batch.num_tokens() % 7 == 0) {
        batch.masked_rows.push_back(static_cast<std::int32_t>(batch.num_tokens()));
        batch.masked_targets.push_back(0);
      }
      batch.input_ids.push_back(below(config.vocab_size));
      batch.token_type_ids.push_back(below(config.type_vocab_size));
      batch.position_ids.push_back(static_cast<std::int32_t>(i));
    }
    batch.sequence_index.push_back(static_cast<std::uint32_t>(batch.num_sequences()));
    batch.cu_seqlens.push_back(static_cast<std::int32_t>(batch.num_tokens()));
  }
  return batch;
}

// A model with memory for the probe batch.
class Probe {
 public:
  explicit Probe(const bert::ModelDescription& description)
      : batch_(probe_batch(description.config)), model_(bert::make_model(description)) {
    model_->allocate(*backend_.device, *backend_.ops,
                     {.tokens = batch_.num_tokens(),
                      .sequences = batch_.num_sequences(),
                      .masked = batch_.num_masked(),
                      .max_seqlen = 40},
                     /*with_gradients=*/false);
    memory_.emplace(*backend_.device, *backend_.ops, model_->capacity(), *model_);
  }

  bert::BertModel& model() { return *model_; }
  const Batch& batch() const { return batch_; }

  struct Output {
    std::string name;
    std::vector<double> values;
  };
  std::vector<Output> compute() {
    model_->forward(memory_->upload(batch_), nullptr);
    std::vector<Output> outputs;
    for (const bert::ModelOutput& each : bert::model_outputs(*model_, batch_)) {
      outputs.push_back(
          {each.name, bert::copy_to_doubles(*backend_.device, each.tensor.slice(0, each.rows))});
    }
    return outputs;
  }

 private:
  bert::Backend backend_ = bert::make_backend(bert::Precision::fp32);
  Batch batch_;
  std::unique_ptr<bert::BertModel> model_;
  std::optional<bert::DeviceBatch> memory_;
};

// The largest difference of two models' outputs, and where; infinite where one is not a number.
struct Difference {
  double largest = 0.0;
  std::string output;
};
Difference compare(const std::vector<Probe::Output>& a, const std::vector<Probe::Output>& b) {
  if (a.size() != b.size()) return {INFINITY, "the number of outputs"};
  Difference difference;
  for (std::size_t o = 0; o < a.size(); ++o) {
    for (std::size_t i = 0; i < a[o].values.size(); ++i) {
      const double by = std::abs(a[o].values[i] - b[o].values[i]);
      if (by > difference.largest) difference = {by, a[o].name};
      if (!std::isfinite(by)) return {INFINITY, a[o].name};
    }
  }
  return difference;
}

// The model's tensors in the type of the file. `model` is given the same rounded values.
class RoundedTensors {
 public:
  RoundedTensors(bert::BertModel& model, const std::string& dtype) {
    bert::ParameterStore& store = model.parameters();
    std::vector<std::byte> host;
    bert::copy_flat_to_host(store, store.values(), host);
    std::vector<bert::SafetensorsView> views;
    bert::append_views(store, host, "", views);
    for (const bert::SafetensorsView& view : views) add(view, dtype);
    store.device().copy_from_host(store.values().raw(), host.data(), host.size());
    store.refresh_compute();
  }

  void write(const fs::path& file) const { bert::write_stored_tensors(file, tensors_); }
  std::size_t size() const { return tensors_.size(); }

 private:
  void add(const bert::SafetensorsView& view, const std::string& dtype) {
    bert::StoredTensor tensor;
    tensor.name = view.name;
    tensor.dtype = dtype;
    tensor.shape = view.shape;
    const auto count = static_cast<std::size_t>(tensor.numel());
    const auto values = static_cast<float*>(const_cast<void*>(view.data));
    bytes_.push_back(bert::encode_elements(std::vector<double>(values, values + count), dtype));
    tensor.data = bytes_.back().data();
    tensor.bytes = bytes_.back().size();
    std::vector<double> rounded(count);
    bert::read_elements(tensor, rounded, view.name);
    for (std::size_t i = 0; i < count; ++i) {
      if (std::isfinite(values[i]) && !std::isfinite(rounded[i])) {
        bert::throw_input_error("{} holds {}, which {} cannot: use --dtype bf16 or f32", view.name,
                                values[i], dtype);
      }
      values[i] = static_cast<float>(rounded[i]);
    }
    tensors_.push_back(std::move(tensor));
  }

  std::vector<bert::StoredTensor> tensors_;
  std::vector<std::vector<std::byte>> bytes_;
};

// A folder that takes its name when it is whole, and is gone otherwise.
class UnfinishedFolder {
 public:
  explicit UnfinishedFolder(const fs::path& target)
      : target_(checked(target)), made_(target_.parent_path()) {
    fs::remove_all(path());
    bert::make_directories(path());
  }
  ~UnfinishedFolder() {
    std::error_code ignored;
    fs::remove_all(path(), ignored);
  }
  fs::path path() const { return target_.string() + ".unfinished"; }
  void finish() {
    std::error_code error;
    fs::remove(target_, error);  // empty
    fs::rename(path(), target_, error);
    if (error) {
      bert::throw_runtime_error("cannot rename {} to {}: {}", path().string(), target_.string(),
                                error.message());
    }
    bert::fsync_directory(target_.parent_path());
  }

 private:
  static fs::path checked(const fs::path& folder) {
    fs::path target = bert::renamed_folder(folder);
    if (fs::exists(target) && !(fs::is_directory(target) && fs::is_empty(target))) {
      bert::throw_input_error("{} is there already; give a folder that is new or empty",
                              target.string());
    }
    return target;
  }

  const fs::path target_;
  const bert::NewFolder made_;
};

std::vector<std::byte> values_of(bert::BertModel& model) {
  std::vector<std::byte> values;
  bert::copy_flat_to_host(model.parameters(), model.parameters().values(), values);
  return values;
}

// `expected`: what `model`, whose parameters were written, computes.
void check_written(const fs::path& folder, bert::BertModel& model,
                   const std::vector<Probe::Output>& expected, const bert::Tokenizer& tokenizer) {
  Probe written(bert::describe_model(folder));
  bert::load_parameters(*bert::open_weights(folder), written.model().parameters());
  // The probe does not read every row of the embeddings.
  if (values_of(written.model()) != values_of(model)) {
    bert::throw_runtime_error("the parameters read otherwise than they were written");
  }
  const Difference difference = compare(written.compute(), expected);
  if (difference.largest > 0.0) {
    bert::throw_runtime_error(
        "what was written does not compute what the model does: {} differs by {}; was the disk "
        "or the memory at fault?",
        difference.output, difference.largest);
  }
  if (!(written.model().config() == model.config()) ||
      bert::load_tokenizer(folder)->fingerprint() != tokenizer.fingerprint()) {
    bert::throw_runtime_error("config.json or the tokenizer reads otherwise than it was written");
  }
}

// What says how a text's vector comes out of the model: modules.json, the folders that it names,
// and what lies beside it.
void copy_sentence_transformers_files(const fs::path& from, const fs::path& to) {
  for (const char* name :
       {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"}) {
    if (fs::exists(from / name)) bert::write_file_atomic(to / name, bert::read_file(from / name));
  }
  const fs::path file = from / "modules.json";
  if (!fs::exists(file)) return;
  const auto modules = bert::parse_json<Json>(bert::read_file(file), file.string());
  for (const Json& module : modules) {
    const Json path = module.is_object() ? module.value("path", Json()) : Json();
    if (!path.is_string()) continue;
    const std::string name = path.get<std::string>();
    // Below the folder, and not the folder itself, where the model is.
    if (name.empty() || fs::path(name).filename() != name || name.starts_with('.')) continue;
    if (!fs::is_directory(from / name)) continue;
    bert::make_directories(to / name);
    for (const auto& entry : fs::directory_iterator(from / name)) {
      if (!entry.is_regular_file()) continue;
      bert::write_file_atomic(to / name / entry.path().filename(), bert::read_file(entry.path()));
    }
  }
}

void warn(const std::string& text) {
  if (!text.empty()) fmt::print(stderr, "warning: {}\n", text);
}

int run(const Arguments& arguments) {
  const fs::path checkpoint = arguments.checkpoint;
  const bert::ModelDescription description = bert::describe_model(checkpoint);
  bert::verify_model_files(checkpoint);
  const auto tokenizer = bert::load_tokenizer(checkpoint);
  const auto* const wordpiece = dynamic_cast<const bert::WordpieceTokenizer*>(tokenizer.get());
  if (wordpiece != nullptr &&
      wordpiece->options().splitter.mode != bert::CompatMode::kHuggingFace) {
    warn(
        "the tokenizer splits words as google-research/bert does; Hugging Face's will differ in "
        "rare characters");
  }
  UnfinishedFolder folder(arguments.output);

  Probe probe(description);
  bert::BertModel& model = probe.model();
  const bert::LoadReport report =
      bert::load_parameters(*bert::open_weights(checkpoint), model.parameters());
  warn(report.warning());
  const std::vector<Probe::Output> exact = probe.compute();
  {
    std::string dtype = arguments.dtype;
    std::transform(dtype.begin(), dtype.end(), dtype.begin(), ::toupper);
    RoundedTensors(model, dtype).write(folder.path() / "model.safetensors");
  }
  bert::write_file_atomic(folder.path() / "config.json",
                          bert::model_config_json(model, tokenizer->special().pad));
  tokenizer->save(folder.path());
  if (const fs::path task = fs::path(checkpoint) / "task.json"; fs::exists(task)) {
    bert::write_file_atomic(folder.path() / "task.json", bert::read_file(task));
  }
  copy_sentence_transformers_files(checkpoint, folder.path());
  const std::vector<Probe::Output> rounded = probe.compute();
  check_written(folder.path(), model, rounded, *tokenizer);
  folder.finish();

  const Json config = Json::parse(bert::model_config_json(model, 0));
  const double rounding = compare(exact, rounded).largest;
  if (arguments.json) {
    Json answer;
    answer["output"] = arguments.output;
    answer["architecture"] = config["architectures"][0];
    answer["dtype"] = arguments.dtype;
    answer["parameters"] = model.parameters().num_parameters();
    answer["probe_tokens"] = probe.batch().num_tokens();
    answer["probe_outputs"] = Json::array();
    for (const Probe::Output& output : rounded) answer["probe_outputs"].push_back(output.name);
    answer["rounding_difference"] = rounding;
    answer["unused_tensors"] = report.unused;
    answer["unknown_tensors"] = report.unknown;
    std::cout << answer.dump(2) << "\n";
    return 0;
  }
  if (!report.unused.empty()) std::cout << report.note() << "\n";
  std::cout << fmt::format(
      "{}: {}, {} in {}; loaded again, it computes the same {} of {} tokens as "
      "the model{}\n",
      arguments.output, config["architectures"][0].get<std::string>(),
      bert::plural(model.parameters().num_parameters(), "parameter"), arguments.dtype,
      bert::plural(rounded.size(), "output"), probe.batch().num_tokens(),
      arguments.dtype == "f32"
          ? std::string()
          : fmt::format(
                " with its parameters rounded to {0}; unrounded ones give numbers that differ "
                "by up to {1:.3g}",
                arguments.dtype, rounding));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] {
    bert::CommandLine line(kHelp, "export");
    Arguments arguments;
    line.add("--checkpoint", arguments.checkpoint,
             "a folder with config.json, weights and tokenizer files")
        .required();
    line.add("--output", arguments.output, "the folder to be written, new or empty").required();
    line.add("--dtype", arguments.dtype, "of the numbers in the file: f32, f16 or bf16")
        .one_of({"f32", "f16", "bf16"});
    line.add("--json", arguments.json, "the answer as JSON");
    if (const auto done = line.parse(argc, argv)) return *done;
    return run(arguments);
  });
}
