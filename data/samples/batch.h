// Batch: packed samples in host memory, as the model wants them. No padding, no attention mask.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bert {

// T tokens of B sequences laid end to end, M masked tokens.
struct Batch {
  std::vector<std::int32_t> input_ids;        // [T], masks applied
  std::vector<std::int32_t> position_ids;     // [T], 0.. within each sequence
  std::vector<std::int32_t> token_type_ids;   // [T]
  std::vector<std::int32_t> cu_seqlens;       // [B + 1], sequence b is tokens [cu[b], cu[b + 1])
  std::vector<std::uint32_t> sequence_index;  // [B], each sequence's place in the whole optimizer
                                              // step, over all ranks: keys the dropout bits
  // [M], ascending token rows that own a loss, and what is to be found there: masked tokens and
  // their original ids, or the first pieces of words and their labels.
  std::vector<std::int32_t> masked_rows, masked_targets;
  // What each sequence is to be recognised as. Empty where a model does not ask for it.
  std::vector<std::int32_t> sequence_labels;  // [B], the class; of NSP: 1 = random next
  std::vector<double> sequence_values;        // [B]
  std::vector<std::int32_t> answer_spans;     // [2 B], first and last row within the sequence
  std::vector<double> loss_weights;           // [B], or [M] for labels of words

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(input_ids.size()); }
  std::int64_t num_sequences() const { return static_cast<std::int64_t>(sequence_index.size()); }
  std::int64_t num_masked() const { return static_cast<std::int64_t>(masked_rows.size()); }
};

// The first sequences of `batch`, as many as have no more than so many tokens and masked tokens
// together; or the first, cut so that it has. Of what belongs to a head, masked tokens alone.
Batch first_sequences(const Batch& batch, std::int64_t most_tokens, std::int64_t most_masked);

// Appends a sequence's tokens, positions and bounds: all but what belongs to a head.
void append_sequence(Batch& batch, std::span<const std::int32_t> input_ids,
                     std::span<const std::int32_t> token_type_ids, std::uint32_t index);
// The same for ids and types that were appended before: positions and bounds.
void end_sequence(Batch& batch, std::uint32_t index);

}  // namespace bert
