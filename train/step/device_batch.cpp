#include "train/step/device_batch.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace bert {
namespace {

constexpr std::int64_t kLeastRows = 64;  // fewer take no less time

std::int64_t round_to_power(std::int64_t n, std::int64_t least, std::int64_t most) {
  const auto power = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(n)));
  return std::clamp(power, std::min(least, most), most);
}

std::int64_t longest_sequence(const Batch& batch) {
  std::int64_t longest = 0;
  for (std::size_t b = 0; b + 1 < batch.cu_seqlens.size(); ++b) {
    longest = std::max<std::int64_t>(longest, batch.cu_seqlens[b + 1] - batch.cu_seqlens[b]);
  }
  return longest;
}

}  // namespace

std::int64_t round_rows(std::int64_t n, std::int64_t most) {
  const auto power = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(n)));
  const std::int64_t unit = std::max(kLeastRows, power / 16);
  return std::clamp((n + unit - 1) / unit * unit, std::min(unit, most), most);
}

Capacity fitting_capacity(const Capacity& capacity, const Batch& batch) {
  return {.tokens = round_rows(batch.num_tokens(), capacity.tokens),
          .sequences = round_to_power(batch.num_sequences(), 8, capacity.sequences),
          .masked = round_rows(batch.num_masked(), capacity.masked),
          .max_seqlen = round_to_power(longest_sequence(batch), kLeastRows, capacity.max_seqlen)};
}

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
  const auto* counts = static_cast<const std::int32_t*>(counts_.raw());
  if (counts != nullptr) {
    input_.tokens.num_tokens = counts;
    input_.tokens.num_sequences = counts + 1;
    input_.num_masked = counts + 2;
  }
  input_.tokens.max_seqlen = capacity.max_seqlen;
}

std::size_t DeviceBatch::count_bytes(const Ops& ops, const Capacity& capacity,
                                     const BertModel& model) {
  Arena counted;
  DeviceBatch().plan(counted, ops, capacity, model.input_parts());
  return counted.bytes();
}

DeviceBatch::DeviceBatch(Device& device, const Ops& ops, const Capacity& capacity,
                         const BertModel& model)
    : device_(&device), ops_(&ops), parts_(model.input_parts()), capacity_(capacity) {
  arena_.build(device, [&](Arena& arena) { plan(arena, ops, capacity, parts_); });
  sizes_.push_back(capacity);
  host_.assign(arena_.bytes(), 0);  // tails hold valid indices
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
  return upload(batch, device_->is_cpu() ? capacity_ : fitting_capacity(capacity_, batch));
}

const ModelInput& DeviceBatch::upload(const Batch& batch, const Capacity& size) {
  const std::int64_t longest = longest_sequence(batch);
  BERT_CHECK(longest <= size.max_seqlen, "a sequence of {} tokens in room for {}", longest,
             size.max_seqlen);
  auto known = std::find(sizes_.begin(), sizes_.end(), size);
  if (known == sizes_.end()) known = sizes_.insert(known, size);
  const int wanted = static_cast<int>(known - sizes_.begin());
  if (wanted != layout_) {
    layout_ = wanted;
    arena_.rebuild([&](Arena& arena) { plan(arena, *ops_, size, parts_); });
    std::fill(host_.begin(), host_.end(), std::uint8_t{0});
  }
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
  cu_seqlens.resize(static_cast<std::size_t>(size.sequences + 1), cu_seqlens.back());
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
  device_->copy_from_host(arena_.data(), host_.data(), arena_.bytes());
  return input_;
}

}  // namespace bert
