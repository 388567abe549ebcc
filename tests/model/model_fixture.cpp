#include "tests/model/model_fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

class PoisonedDevice : public Device {
 public:
  explicit PoisonedDevice(std::unique_ptr<Device> memory) : memory_(std::move(memory)) {}
  std::string name() const override { return memory_->name(); }
  bool is_cpu() const override { return memory_->is_cpu(); }
  void* allocate(std::size_t bytes) override {
    void* memory = memory_->allocate(bytes);
    const std::vector<unsigned char> poison(bytes, 0xFF);
    memory_->copy_from_host(memory, poison.data(), bytes);
    return memory;
  }
  void free(void* pointer) override { memory_->free(pointer); }
  void fill_zero(void* pointer, std::size_t bytes) override { memory_->fill_zero(pointer, bytes); }
  void copy_from_host(void* device, const void* host, std::size_t bytes) override {
    memory_->copy_from_host(device, host, bytes);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    memory_->copy(to, from, bytes);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    memory_->copy_to_host(host, device, bytes);
  }
  void synchronize() override { memory_->synchronize(); }

 private:
  std::unique_ptr<Device> memory_;
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
  if (!nsp_labels.empty()) out.sequence_labels = slice(nsp_labels, first, last);
  for (std::size_t i = 0; i < masked_rows.size(); ++i) {
    if (masked_rows[i] < begin || masked_rows[i] >= end) continue;
    out.masked_rows.push_back(masked_rows[i] - begin);
    out.masked_targets.push_back(masked_targets[i]);
  }
  return out;
}

HostBatch random_batch(std::string_view name, const BertConfig& config,
                       const std::vector<std::int64_t>& lengths, std::int64_t masked_every) {
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
  const std::string prefix(name);
  const auto tokens = static_cast<std::int64_t>(batch.position_ids.size());
  batch.input_ids = random_integers(prefix + "/ids", tokens, config.vocab_size - 1);
  for (double& id : batch.input_ids) id += 1.0;
  batch.sequence_labels =
      random_integers(prefix + "/labels", static_cast<std::int64_t>(lengths.size()), 2);
  for (std::int64_t row = 1; row < tokens; row += masked_every) {
    batch.masked_rows.push_back(static_cast<double>(row));
  }
  batch.masked_targets =
      random_integers(prefix + "/targets", batch.num_masked(), config.vocab_size);
  return batch;
}

DeviceBatch::DeviceBatch(Device& device, const HostBatch& batch, const Capacity& capacity) {
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
  if (!batch.sequence_labels.empty()) {
    input_.sequence_labels = tensor(device, DType::i32, capacity.sequences, batch.sequence_labels);
  }
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

ModelRun::ModelRun(const BertConfig& config, BertForPretraining::Heads heads,
                   const std::function<Backend()>& make_backend, const Capacity& capacity,
                   bool recompute)
    : ModelRun(config, heads, make_backend(), capacity, recompute) {}

ModelRun::ModelRun(const BertConfig& config, BertForPretraining::Heads heads, Backend backend,
                   const Capacity& capacity, bool recompute)
    : backend_(std::move(backend)), capacity_(capacity), model_(config, heads) {
  backend_.device = make_poisoned_device(std::move(backend_.device));
  model_.allocate(device(), *backend_.ops, capacity, true, recompute);
}

ModelResults ModelRun::step(const std::vector<HostBatch>& micro_batches,
                            std::optional<DropoutKey> key) {
  ParameterStore& store = model_.parameters();
  backend_.ops->zero(store.gradients());
  std::int64_t masked = 0, sequences = 0;
  for (const HostBatch& batch : micro_batches) {
    masked += batch.num_masked();
    sequences += batch.num_sequences();
  }
  ModelLoss fresh;
  fresh.main_scale = masked > 0 ? 1.0 / static_cast<double>(masked) : 0.0;
  fresh.nsp_scale = 1.0 / static_cast<double>(sequences);
  const DeviceStruct<ModelLoss> sums(device(), fresh);
  const DeviceStruct<DropoutKey> device_key(device(), key.value_or(DropoutKey{}));

  ModelResults results;
  for (const HostBatch& batch : micro_batches) {
    const DeviceBatch device_batch(device(), batch, capacity_);
    const auto rows = [&](const Tensor& tensor, std::int64_t count) {
      return store.read(tensor.slice(0, count));
    };
    model_.forward(device_batch.input(), key ? device_key.data() : nullptr);
    results.hidden_states.clear();
    for (const Tensor& state : model_.hidden_states()) {
      results.hidden_states.push_back(rows(state, batch.num_tokens()));
    }
    const std::int64_t vocab_size = model_.config().vocab_size, stride = model_.mlm_logits().dim(1);
    const std::vector<double> padded = rows(model_.mlm_logits(), batch.num_masked());
    results.mlm_logits.clear();
    for (std::int64_t row = 0; row < batch.num_masked(); ++row) {
      const auto first = padded.begin() + row * stride;
      results.mlm_logits.insert(results.mlm_logits.end(), first, first + vocab_size);
    }
    if (model_.has_nsp()) {
      results.pooled = rows(model_.pooled(), batch.num_sequences());
      results.nsp_logits = rows(model_.nsp_logits(), batch.num_sequences());
    }
    model_.loss(device_batch.input(), sums.data(), true);
    model_.backward(device_batch.input());
  }
  results.mlm = sums.get().main;
  results.nsp = sums.get().nsp;
  results.loss = results.mlm.loss * fresh.main_scale + results.nsp.loss * fresh.nsp_scale;
  for (const Parameter& parameter : store.parameters()) {
    split_by_name(parameter, store.read(parameter.gradient), results.gradients);
  }
  results.activation_bytes = model_.activation_bytes();
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

}  // namespace bert::test
