// Batch: packed samples in host memory, as the model wants them. No padding, no attention mask.
#pragma once

#include <cstdint>
#include <vector>

namespace bert {

// T tokens of B sequences laid end to end, M masked tokens.
struct Batch {
  std::vector<std::int32_t> input_ids;       // [T], masks applied
  std::vector<std::int32_t> position_ids;    // [T], 0.. within each sequence
  std::vector<std::int32_t> token_type_ids;  // [T]
  std::vector<std::int32_t> cu_seqlens;      // [B + 1], sequence b is tokens [cu[b], cu[b + 1])
  std::vector<std::uint32_t> sequence_index; // [B], each sequence's place in the whole optimizer
                                             // step, over all ranks: keys the dropout bits
  std::vector<std::int32_t> masked_rows;     // [M], ascending token rows that own a loss
  std::vector<std::int32_t> masked_targets;  // [M], the original ids there
  std::vector<std::int32_t> nsp_labels;      // [B], 1 = random next; empty without NSP

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(input_ids.size()); }
  std::int64_t num_sequences() const { return static_cast<std::int64_t>(sequence_index.size()); }
  std::int64_t num_masked() const { return static_cast<std::int64_t>(masked_rows.size()); }
};

}  // namespace bert
