#include "tests/model/model_fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "tests/support/random_inputs.h"
#include "tests/support/wrapped_device.h"

namespace bert::test {
namespace {

class PoisonedDevice final : public WrappedDevice {
 public:
  using WrappedDevice::WrappedDevice;
  void* allocate(std::size_t bytes) override {
    void* const memory = WrappedDevice::allocate(bytes);
    copy_from_host(memory, std::vector<unsigned char>(bytes, 0xFF).data(), bytes);
    return memory;
  }
};

std::vector<double> slice(const std::vector<double>& values, std::int64_t first,
                          std::int64_t last) {
  return {values.begin() + first, values.begin() + last};
}

}  // namespace

std::unique_ptr<Device> make_poisoned_device(std::unique_ptr<Device> memory) {
  return std::make_unique<PoisonedDevice>(std::move(memory));
}

std::int64_t HostBatch::max_seqlen() const {
  double longest = 0.0;
  for (std::size_t b = 0; b + 1 < cu_seqlens.size(); ++b) {
    longest = std::max(longest, cu_seqlens[b + 1] - cu_seqlens[b]);
  }
  return static_cast<std::int64_t>(longest);
}

HostBatch HostBatch::part(std::int64_t first, std::int64_t last) const {
  const double begin = cu_seqlens[static_cast<std::size_t>(first)];
  const double end = cu_seqlens[static_cast<std::size_t>(last)];
  const auto first_token = static_cast<std::int64_t>(begin);
  const auto last_token = static_cast<std::int64_t>(end);
  HostBatch out;
  out.input_ids = slice(input_ids, first_token, last_token);
  out.token_type_ids = slice(token_type_ids, first_token, last_token);
  out.position_ids = slice(position_ids, first_token, last_token);
  out.cu_seqlens = slice(cu_seqlens, first, last + 1);
  for (double& offset : out.cu_seqlens) offset -= begin;
  out.sequence_index = slice(sequence_index, first, last);
  const auto of_sequences = [&](const std::vector<double>& values, std::int64_t each) {
    return values.empty() ? values : slice(values, each * first, each * last);
  };
  out.sequence_labels = of_sequences(sequence_labels, 1);
  out.sequence_values = of_sequences(sequence_values, 1);
  out.answer_spans = of_sequences(answer_spans, 2);
  if (masked_rows.empty()) out.loss_weights = of_sequences(loss_weights, 1);
  for (std::size_t i = 0; i < masked_rows.size(); ++i) {
    if (masked_rows[i] < begin || masked_rows[i] >= end) continue;
    out.masked_rows.push_back(masked_rows[i] - begin);
    out.masked_targets.push_back(masked_targets[i]);
    if (!loss_weights.empty()) out.loss_weights.push_back(loss_weights[i]);
  }
  return out;
}

namespace {

const std::vector<std::string> kLabels = {"a", "b", "c"};

// Without anything that owns a loss.
HostBatch random_tokens(const std::string& name, const BertConfig& config,
                        const std::vector<std::int64_t>& lengths) {
  HostBatch batch;
  for (const std::int64_t length : lengths) {
    for (std::int64_t i = 0; i < length; ++i) {
      batch.position_ids.push_back(static_cast<double>(i));
      batch.token_type_ids.push_back(i > length / 2 ? 1.0 : 0.0);
    }
    batch.cu_seqlens.push_back(static_cast<double>(batch.position_ids.size()));
    batch.sequence_index.push_back(
        static_cast<double>(3 * lengths.size() - 2 * batch.sequence_index.size()));
  }
  const auto tokens = static_cast<std::int64_t>(batch.position_ids.size());
  batch.input_ids = random_integers(name + "/ids", tokens, config.vocab_size - 1);
  for (double& id : batch.input_ids) id += 1.0;
  return batch;
}

void mask_every(std::int64_t distance, const std::string& name, std::int64_t targets,
                HostBatch& batch) {
  for (std::int64_t row = 1; row < batch.num_tokens(); row += distance) {
    batch.masked_rows.push_back(static_cast<double>(row));
  }
  batch.masked_targets = random_integers(name + "/targets", batch.num_masked(), targets);
}

std::vector<double> weights_of(const std::vector<double>& labels, std::int64_t outputs) {
  std::vector<double> of_label = random_values("class weights", outputs, 0.2, 1.0), weights;
  of_label[0] = 0.25;
  for (const double label : labels) {
    weights.push_back(label == kIgnoreIndex ? 0.0 : of_label[static_cast<std::size_t>(label)]);
  }
  return weights;
}

}  // namespace

HostBatch random_batch(std::string_view name, const BertConfig& config,
                       const std::vector<std::int64_t>& lengths, std::int64_t masked_every) {
  const std::string prefix(name);
  HostBatch batch = random_tokens(prefix, config, lengths);
  batch.sequence_labels = random_integers(prefix + "/labels", batch.num_sequences(), 2);
  mask_every(masked_every, prefix, config.vocab_size, batch);
  return batch;
}

const std::vector<TaskCase> kTaskCases = {
    {TaskKind::classification, false},      {TaskKind::classification, true},
    {TaskKind::regression, false},          {TaskKind::token_classification, false},
    {TaskKind::token_classification, true}, {TaskKind::question_answering, false},
};

std::string TaskCase::name() const {
  return std::string(task_kind_name(kind)) + (weighted ? "_weighted" : "");
}

std::unique_ptr<BertModel> make_task_model(const BertConfig& config, const TaskCase& task) {
  return std::make_unique<BertForTask>(config, task.kind, kLabels, task.weighted);
}

HostBatch random_task_batch(std::string_view name, const BertConfig& config, const TaskCase& task,
                            const std::vector<std::int64_t>& lengths) {
  const auto outputs = static_cast<std::int64_t>(kLabels.size());
  const std::string prefix(name);
  HostBatch batch = random_tokens(prefix, config, lengths);
  switch (task.kind) {
    case TaskKind::classification:
      batch.sequence_labels = random_integers(prefix + "/labels", batch.num_sequences(), outputs);
      batch.sequence_labels[2] = kIgnoreIndex;
      if (task.weighted) batch.loss_weights = weights_of(batch.sequence_labels, outputs);
      break;
    case TaskKind::regression:
      batch.sequence_values = random_values(prefix + "/values", batch.num_sequences(), 2.0);
      break;
    case TaskKind::token_classification:
      mask_every(2, prefix, outputs, batch);
      batch.masked_targets[1] = batch.masked_targets.back() = kIgnoreIndex;
      if (task.weighted) batch.loss_weights = weights_of(batch.masked_targets, outputs);
      break;
    case TaskKind::question_answering:
      for (const std::int64_t length : lengths) {
        const std::string place = prefix + "/" + std::to_string(batch.answer_spans.size());
        for (const double row : random_integers(place, 2, length)) {
          batch.answer_spans.push_back(row);
        }
      }
      batch.answer_spans[1] = kIgnoreIndex;
      break;
  }
  return batch;
}

DeviceBatch::DeviceBatch(Device& device, DType statistics, const HostBatch& batch,
                         const Capacity& capacity) {
  const auto tokens = [&](const std::vector<double>& values) {
    return tensor(device, DType::i32, capacity.tokens, values);
  };
  std::vector<double> token_sequence;
  for (std::int64_t b = 0; b < batch.num_sequences(); ++b) {
    const auto index = static_cast<std::size_t>(b);
    token_sequence.resize(static_cast<std::size_t>(batch.cu_seqlens[index + 1]),
                          static_cast<double>(b));
  }
  input_.input_ids = tokens(batch.input_ids);
  input_.token_type_ids = tokens(batch.token_type_ids);
  input_.tokens.position_ids = tokens(batch.position_ids);
  input_.tokens.token_sequence = tokens(token_sequence);
  input_.tokens.cu_seqlens =
      tensor(device, DType::i32, capacity.sequences + 1, batch.cu_seqlens, batch.cu_seqlens.back());
  input_.tokens.sequence_index =
      tensor(device, DType::u32, capacity.sequences, batch.sequence_index);
  input_.tokens.num_tokens = count(device, batch.num_tokens());
  input_.tokens.num_sequences = count(device, batch.num_sequences());
  input_.tokens.max_seqlen = batch.max_seqlen();
  input_.masked_rows = tensor(device, DType::i32, capacity.masked, batch.masked_rows);
  input_.masked_targets = tensor(device, DType::i32, capacity.masked, batch.masked_targets);
  input_.num_masked = count(device, batch.num_masked());
  const auto optional = [&](Tensor& to, DType dtype, std::int64_t numel,
                            const std::vector<double>& values) {
    if (!values.empty()) to = tensor(device, dtype, numel, values);
  };
  optional(input_.sequence_labels, DType::i32, capacity.sequences, batch.sequence_labels);
  optional(input_.sequence_values, statistics, capacity.sequences, batch.sequence_values);
  optional(input_.answer_spans, DType::i32, 2 * capacity.sequences, batch.answer_spans);
  optional(input_.loss_weights, statistics,
           batch.masked_rows.empty() ? capacity.sequences : capacity.masked, batch.loss_weights);
}

Tensor DeviceBatch::tensor(Device& device, DType dtype, std::int64_t capacity,
                           const std::vector<double>& values, std::optional<double> tail) {
  const auto unspecified = dtype == DType::u32 ? 4294967295.0 : -1.0;
  std::vector<double> padded = values;
  padded.resize(static_cast<std::size_t>(capacity), tail.value_or(unspecified));
  tensors_.push_back(std::make_unique<DeviceTensor>(
      device, dtype, std::initializer_list<std::int64_t>{capacity}, padded));
  return tensors_.back()->tensor();
}

DeviceCount DeviceBatch::count(Device& device, std::int64_t value) {
  return tensor(device, DType::i32, 1, {static_cast<double>(value)}).data<std::int32_t>();
}

ModelRun::ModelRun(std::unique_ptr<BertModel> model, const std::function<Backend()>& make_backend,
                   const Capacity& capacity, bool recompute)
    : backend_(make_backend()), capacity_(capacity), model_(std::move(model)) {
  backend_.device = make_poisoned_device(std::move(backend_.device));
  model_->allocate(device(), *backend_.ops, capacity, true, recompute);
}

void ModelRun::initialize(std::uint64_t seed) {
  ParameterStore& store = model_->parameters();
  store.initialize(model_->config(), seed);
  for (const Parameter& parameter : store.parameters()) {
    std::vector<double> values = store.read(parameter.value);
    for (double& value : values) value = static_cast<float>(value);
    store.write(parameter.value, values);
  }
  store.refresh_compute();
}

namespace {

// What the main loss is a mean over: masked tokens or known labels, by their weights.
double main_weight(const BertModel& model, const HostBatch& batch) {
  const auto* task = dynamic_cast<const BertForTask*>(&model);
  if (task == nullptr) return static_cast<double>(batch.num_masked());
  const auto sum = [&](const std::vector<double>& targets) {
    double weight = 0.0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (targets[i] == kIgnoreIndex) continue;
      weight += batch.loss_weights.empty() ? 1.0 : batch.loss_weights[i];
    }
    return weight;
  };
  switch (task->kind()) {
    case TaskKind::classification:
      return sum(batch.sequence_labels);
    case TaskKind::regression:
      return static_cast<double>(batch.num_sequences());
    case TaskKind::token_classification:
      return sum(batch.masked_targets);
    case TaskKind::question_answering:
      break;
  }
  return sum(batch.answer_spans);
}

}  // namespace

void ModelRun::read_outputs(const HostBatch& batch, ModelResults& results) const {
  const auto rows = [&](const Tensor& tensor, std::int64_t count) {
    return model_->parameters().read(tensor.slice(0, count));
  };
  results.hidden_states.clear();
  for (const Tensor& state : model_->hidden_states()) {
    results.hidden_states.push_back(rows(state, batch.num_tokens()));
  }
  if (model_->has_pooler()) results.pooled = rows(model_->pooled(), batch.num_sequences());
  if (const auto* task = dynamic_cast<const BertForTask*>(model_.get())) {
    const bool words = task->kind() == TaskKind::token_classification;
    const bool tokens = task->kind() == TaskKind::question_answering;
    results.logits = rows(task->logits(), words    ? batch.num_masked()
                                          : tokens ? batch.num_tokens()
                                                   : batch.num_sequences());
  }
  const auto* pretraining = dynamic_cast<const BertForPretraining*>(model_.get());
  if (pretraining == nullptr) return;
  const std::int64_t vocab_size = model_->config().vocab_size,
                     stride = pretraining->mlm_logits().dim(1);
  const std::vector<double> padded = rows(pretraining->mlm_logits(), batch.num_masked());
  results.mlm_logits.clear();
  for (std::int64_t row = 0; row < batch.num_masked(); ++row) {
    const auto first = padded.begin() + row * stride;
    results.mlm_logits.insert(results.mlm_logits.end(), first, first + vocab_size);
  }
  if (model_->has_nsp())
    results.nsp_logits = rows(pretraining->nsp_logits(), batch.num_sequences());
}

ModelResults ModelRun::step(const std::vector<HostBatch>& micro_batches,
                            std::optional<DropoutKey> key) {
  backend_.ops->zero(model_->parameters().gradients());
  return accumulate(micro_batches, key);
}

ModelResults ModelRun::accumulate(const std::vector<HostBatch>& micro_batches,
                                  std::optional<DropoutKey> key, const GradientsReady& ready) {
  double main = 0.0, sequences = 0.0;
  for (const HostBatch& batch : micro_batches) {
    main += main_weight(*model_, batch);
    sequences += static_cast<double>(batch.num_sequences());
  }
  ModelLoss fresh;
  fresh.main_scale = main > 0.0 ? 1.0 / main : 0.0;
  fresh.nsp_scale = 1.0 / sequences;
  const DeviceStruct<ModelLoss> sums(device(), fresh);
  const DeviceStruct<DropoutKey> device_key(device(), key.value_or(DropoutKey{}));

  ModelResults results;
  for (const HostBatch& batch : micro_batches) {
    const DeviceBatch device_batch(device(), backend_.ops->statistics_dtype(), batch, capacity_);
    model_->forward(device_batch.input(), key ? device_key.data() : nullptr);
    read_outputs(batch, results);
    model_->loss(device_batch.input(), sums.data(), true);
    model_->backward(device_batch.input(), ready);
  }
  results.main = sums.get().main;
  results.nsp = sums.get().nsp;
  results.loss = results.main.loss * fresh.main_scale + results.nsp.loss * fresh.nsp_scale;
  for (const Parameter& parameter : model_->parameters().parameters()) {
    split_by_name(parameter, model_->parameters().read(parameter.gradient), results.gradients);
  }
  results.activation_bytes = model_->activation_bytes();
  return results;
}

void split_by_name(const Parameter& parameter, const std::vector<double>& values,
                   std::map<std::string, std::vector<double>>& out) {
  const auto part = static_cast<std::int64_t>(values.size()) /
                    static_cast<std::int64_t>(parameter.hf_names.size());
  std::int64_t first = 0;
  for (const std::string& name : parameter.hf_names) {
    out[name] = slice(values, first, first + part);
    first += part;
  }
}

double largest(const std::vector<double>& values) {
  double most = 0.0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

double relative_error(const std::vector<double>& values, const std::vector<double>& expected,
                      double scale) {
  if (values.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double worst = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double difference = std::abs(values[i] - expected[i]);
    if (!(difference <= worst)) worst = difference;  // NaN is the worst
    if (std::isnan(worst)) return std::numeric_limits<double>::infinity();
  }
  if (scale == 0.0) scale = largest(expected);
  return scale > 0.0 ? worst / scale
                     : (worst > 0.0 ? std::numeric_limits<double>::infinity() : 0.0);
}

std::map<std::string, double> gradient_errors(
    const std::map<std::string, std::vector<double>>& gradients,
    const std::map<std::string, std::vector<double>>& expected) {
  double largest_of_all = 0.0;
  for (const auto& [name, gradient] : expected) {
    largest_of_all = std::max(largest_of_all, largest(gradient));
  }
  std::map<std::string, double> errors;
  for (const auto& [name, gradient] : gradients) {
    errors[name] = std::numeric_limits<double>::infinity();
  }
  for (const auto& [name, gradient] : expected) {
    const auto found = gradients.find(name);
    const bool is_zero = largest(gradient) < 1e-12 * largest_of_all;
    errors[name] = found == gradients.end()
                       ? std::numeric_limits<double>::infinity()
                       : relative_error(found->second, gradient, is_zero ? largest_of_all : 0.0);
  }
  return errors;
}

}  // namespace bert::test
