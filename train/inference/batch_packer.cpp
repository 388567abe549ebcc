#include "train/inference/batch_packer.h"

#include <utility>

#include "runtime/error.h"
#include "train/step/micro_batch_limits.h"

namespace bert {

BatchPacker::BatchPacker(const Capacity& capacity, std::function<void(const Batch&)> use)
    : capacity_(capacity), use_(std::move(use)) {}

void BatchPacker::add(const TaskSequence& sequence) {
  const auto tokens = static_cast<std::int64_t>(sequence.input_ids.size()),
             masked = static_cast<std::int64_t>(sequence.rows.size());
  BERT_CHECK(tokens <= capacity_.max_seqlen && masked <= capacity_.masked);
  if (!has_room(batch_, limits_of(capacity_), tokens, masked)) flush();
  const auto first_row = static_cast<std::int32_t>(batch_.num_tokens());
  append_sequence(batch_, sequence.input_ids, sequence.token_type_ids,
                  static_cast<std::uint32_t>(sequences_));
  for (const std::int32_t row : sequence.rows) batch_.masked_rows.push_back(first_row + row);
  batch_.masked_targets.insert(batch_.masked_targets.end(), sequence.row_labels.begin(),
                               sequence.row_labels.end());
  ++sequences_;
  tokens_ += tokens;
}

void BatchPacker::flush() {
  if (batch_.num_sequences() == 0) return;
  use_(batch_);
  batch_ = {};
}

}  // namespace bert
