#include "train/device_batch.h"

#include <algorithm>
#include <cstring>

namespace bert {

void DeviceBatch::plan(Arena& arena, const Ops& ops, const Capacity& capacity,
                       const InputParts& parts) {
  const auto take = [&](std::int64_t n) { return arena.take(DType::i32, {n}); };
  input_.input_ids = take(capacity.tokens);
  input_.token_type_ids = take(capacity.tokens);
  input_.tokens.position_ids = take(capacity.tokens);
  input_.tokens.token_sequence = take(capacity.tokens);
  input_.tokens.cu_seqlens = take(capacity.sequences + 1);
  input_.tokens.sequence_index = arena.take(DType::u32, {capacity.sequences});
  input_.masked_rows = take(capacity.masked);
  input_.masked_targets = take(capacity.masked);
  if (parts.sequence_labels) input_.sequence_labels = take(capacity.sequences);
  if (parts.answer_spans) input_.answer_spans = take(2 * capacity.sequences);
  const auto take_real = [&](std::int64_t n) { return arena.take(ops.statistics_dtype(), {n}); };
  if (parts.sequence_values) input_.sequence_values = take_real(capacity.sequences);
  if (parts.sequence_weights) input_.loss_weights = take_real(capacity.sequences);
  if (parts.row_weights) input_.loss_weights = take_real(capacity.masked);
  counts_ = take(3);
}

std::size_t DeviceBatch::count_bytes(const Ops& ops, const Capacity& capacity,
                                     const BertModel& model) {
  Arena counted;
  DeviceBatch().plan(counted, ops, capacity, model.input_parts());
  return counted.bytes();
}

DeviceBatch::DeviceBatch(Device& device, const Ops& ops, const Capacity& capacity,
                         const BertModel& model)
    : device_(&device), capacity_(capacity) {
  arena_.build(device, [&](Arena& arena) { plan(arena, ops, capacity, model.input_parts()); });
  host_.assign(arena_.bytes(), 0);  // tails hold valid indices from the start
  const auto* counts = static_cast<const std::int32_t*>(counts_.raw());
  input_.tokens.num_tokens = counts;
  input_.tokens.num_sequences = counts + 1;
  input_.num_masked = counts + 2;
  input_.tokens.max_seqlen = capacity.max_seqlen;
}

// Copies `values` to the start of where `tensor` will be.
template <typename T>
void DeviceBatch::put(const Tensor& tensor, const std::vector<T>& values) {
  BERT_CHECK(static_cast<std::int64_t>(values.size()) <= tensor.numel(),
             "{} values for a capacity of {}", values.size(), tensor.numel());
  if (values.empty()) return;
  const auto* place = reinterpret_cast<const unsigned char*>(tensor.data<T>());
  const auto offset = place - static_cast<const unsigned char*>(arena_.data());
  std::memcpy(host_.data() + offset, values.data(), values.size() * sizeof(T));
}

void DeviceBatch::put_real(const Tensor& tensor, const std::vector<double>& values) {
  if (tensor.dtype() == DType::f64) return put(tensor, values);
  put(tensor, std::vector<float>(values.begin(), values.end()));
}

const ModelInput& DeviceBatch::upload(const Batch& batch) {
  put(input_.input_ids, batch.input_ids);
  put(input_.token_type_ids, batch.token_type_ids);
  put(input_.tokens.position_ids, batch.position_ids);

  std::vector<std::int32_t> token_sequence(batch.input_ids.size());
  for (std::int64_t b = 0; b < batch.num_sequences(); ++b) {
    const auto i = static_cast<std::size_t>(b);
    std::fill(token_sequence.begin() + batch.cu_seqlens[i],
              token_sequence.begin() + batch.cu_seqlens[i + 1], static_cast<std::int32_t>(b));
  }
  put(input_.tokens.token_sequence, token_sequence);

  std::vector<std::int32_t> cu_seqlens = batch.cu_seqlens;
  cu_seqlens.resize(static_cast<std::size_t>(capacity_.sequences + 1), cu_seqlens.back());
  put(input_.tokens.cu_seqlens, cu_seqlens);
  put(input_.tokens.sequence_index, batch.sequence_index);
  put(input_.masked_rows, batch.masked_rows);
  put(input_.masked_targets, batch.masked_targets);
  if (input_.sequence_labels) put(input_.sequence_labels, batch.sequence_labels);
  if (input_.answer_spans) put(input_.answer_spans, batch.answer_spans);
  if (input_.sequence_values) put_real(input_.sequence_values, batch.sequence_values);
  if (input_.loss_weights) put_real(input_.loss_weights, batch.loss_weights);
  put(counts_, std::vector<std::int32_t>{static_cast<std::int32_t>(batch.num_tokens()),
                                         static_cast<std::int32_t>(batch.num_sequences()),
                                         static_cast<std::int32_t>(batch.num_masked())});
  device_->copy_from_host(arena_.data(), host_.data(), host_.size());
  return input_;
}

}  // namespace bert
