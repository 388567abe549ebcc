#include "train/device_batch.h"

#include <algorithm>
#include <array>
#include <vector>

namespace bert {
namespace {

// Copies `values` to the start of `tensor`.
template <typename T>
void copy(Device& device, const Tensor& tensor, const std::vector<T>& values) {
  BERT_CHECK(static_cast<std::int64_t>(values.size()) <= tensor.numel(),
             "{} values for a capacity of {}", values.size(), tensor.numel());
  device.copy_from_host(tensor.data<T>(), values.data(), values.size() * sizeof(T));
}

}  // namespace

DeviceBatch::DeviceBatch(Device& device, const Capacity& capacity, bool with_nsp)
    : device_(device), capacity_(capacity) {
  arena_.build(device, [&](Arena& arena) {
    const auto take = [&](std::int64_t n) { return arena.take(DType::i32, {n}); };
    input_.input_ids = take(capacity.tokens);
    input_.token_type_ids = take(capacity.tokens);
    input_.tokens.position_ids = take(capacity.tokens);
    input_.tokens.token_sequence = take(capacity.tokens);
    input_.tokens.cu_seqlens = take(capacity.sequences + 1);
    input_.tokens.sequence_index = arena.take(DType::u32, {capacity.sequences});
    input_.masked_rows = take(capacity.masked);
    input_.masked_targets = take(capacity.masked);
    if (with_nsp) input_.nsp_labels = take(capacity.sequences);
    counts_ = take(3);
  });
  device.fill_zero(arena_.data(), arena_.bytes());  // tails hold valid indices from the start
  const auto* counts = static_cast<const std::int32_t*>(counts_.raw());
  input_.tokens.num_tokens = counts;
  input_.tokens.num_sequences = counts + 1;
  input_.num_masked = counts + 2;
  input_.tokens.max_seqlen = capacity.max_seqlen;
}

const PretrainingInput& DeviceBatch::upload(const Batch& batch) {
  copy(device_, input_.input_ids, batch.input_ids);
  copy(device_, input_.token_type_ids, batch.token_type_ids);
  copy(device_, input_.tokens.position_ids, batch.position_ids);

  std::vector<std::int32_t> token_sequence(batch.input_ids.size());
  for (std::int64_t b = 0; b < batch.num_sequences(); ++b) {
    const auto i = static_cast<std::size_t>(b);
    std::fill(token_sequence.begin() + batch.cu_seqlens[i],
              token_sequence.begin() + batch.cu_seqlens[i + 1], static_cast<std::int32_t>(b));
  }
  copy(device_, input_.tokens.token_sequence, token_sequence);

  std::vector<std::int32_t> cu_seqlens = batch.cu_seqlens;
  cu_seqlens.resize(static_cast<std::size_t>(capacity_.sequences + 1), cu_seqlens.back());
  copy(device_, input_.tokens.cu_seqlens, cu_seqlens);
  copy(device_, input_.tokens.sequence_index, batch.sequence_index);
  copy(device_, input_.masked_rows, batch.masked_rows);
  copy(device_, input_.masked_targets, batch.masked_targets);
  if (input_.nsp_labels) copy(device_, input_.nsp_labels, batch.nsp_labels);
  copy(device_, counts_,
       std::vector<std::int32_t>{static_cast<std::int32_t>(batch.num_tokens()),
                                 static_cast<std::int32_t>(batch.num_sequences()),
                                 static_cast<std::int32_t>(batch.num_masked())});
  return input_;
}

}  // namespace bert
