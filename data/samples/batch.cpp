#include "data/samples/batch.h"

#include <algorithm>

namespace bert {

void append_sequence(Batch& batch, std::span<const std::int32_t> input_ids,
                     std::span<const std::int32_t> token_type_ids, std::uint32_t index) {
  batch.input_ids.insert(batch.input_ids.end(), input_ids.begin(), input_ids.end());
  batch.token_type_ids.insert(batch.token_type_ids.end(), token_type_ids.begin(),
                              token_type_ids.end());
  end_sequence(batch, index);
}

void end_sequence(Batch& batch, std::uint32_t index) {
  if (batch.cu_seqlens.empty()) batch.cu_seqlens.push_back(0);
  const auto end = static_cast<std::int32_t>(batch.num_tokens());
  for (std::int32_t position = 0; position < end - batch.cu_seqlens.back(); ++position) {
    batch.position_ids.push_back(position);
  }
  batch.cu_seqlens.push_back(end);
  batch.sequence_index.push_back(index);
}

Batch first_sequences(const Batch& batch, std::int64_t most_tokens, std::int64_t most_masked) {
  Batch first;
  const auto& rows = batch.masked_rows;
  const auto masked_before = [&](std::size_t row) {
    return static_cast<std::size_t>(
        std::lower_bound(rows.begin(), rows.end(), static_cast<std::int32_t>(row)) - rows.begin());
  };
  std::size_t masked = 0;
  for (std::size_t b = 0; b < batch.sequence_index.size(); ++b) {
    const auto begin = static_cast<std::size_t>(batch.cu_seqlens[b]);
    auto end = static_cast<std::size_t>(batch.cu_seqlens[b + 1]);
    std::size_t masked_end = masked_before(end);
    if (static_cast<std::int64_t>(end) > most_tokens ||
        static_cast<std::int64_t>(masked_end) > most_masked) {
      if (b > 0) break;
      end = std::min(end, static_cast<std::size_t>(most_tokens));
      masked_end = std::min(masked_before(end), static_cast<std::size_t>(most_masked));
    }
    append_sequence(first, std::span(batch.input_ids).subspan(begin, end - begin),
                    std::span(batch.token_type_ids).subspan(begin, end - begin),
                    batch.sequence_index[b]);
    masked = masked_end;
  }
  const auto count = static_cast<std::ptrdiff_t>(masked);
  first.masked_rows.assign(rows.begin(), rows.begin() + count);
  first.masked_targets.assign(batch.masked_targets.begin(), batch.masked_targets.begin() + count);
  return first;
}

}  // namespace bert
