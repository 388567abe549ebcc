#include "train/inference/task_batches.h"

#include <algorithm>
#include <utility>

#include "data/samples/permutation.h"
#include "runtime/error.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
namespace {

std::int64_t length(const TaskSequence& sequence) {
  return static_cast<std::int64_t>(sequence.input_ids.size());
}

}  // namespace

TaskBatches::TaskBatches(const std::vector<TaskSequence>& sequences, TaskKind kind,
                         TaskBatchOptions options)
    : sequences_(sequences), kind_(kind), options_(std::move(options)) {
  BERT_CHECK(!sequences_.empty() && options_.batch_size >= options_.world_size);
}

const TaskSequence& TaskBatches::shuffled(std::uint64_t element) const {
  const std::uint64_t size = sequences_.size();
  return sequences_[KeyedPermutation(size, options_.seed, element / size)(element % size)];
}

StepBatches TaskBatches::step(std::uint64_t step) const {
  const auto count = static_cast<std::uint64_t>(options_.batch_size);
  const auto fixed = static_cast<std::uint64_t>(options_.micro_batch_sequences);

  StepBatches result;
  result.step = step;
  result.first_element = step * count;
  result.global_sequences = options_.batch_size;
  const auto [first, end] = share(count);
  result.loss_weight = 0.0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const TaskSequence& sequence = shuffled(result.first_element + i);
    *result.loss_weight += weight(sequence);
    if (i < first || i >= end) continue;
    append(sequence, static_cast<std::uint32_t>(i), fixed > 0 && i % fixed == 0,
           result.micro_batches);
  }
  for (const Batch& batch : result.micro_batches) {
    result.sequences += batch.num_sequences();
    result.tokens += batch.num_tokens();
    result.masked += batch.num_masked();
  }
  return result;
}

TaskBatches::Share TaskBatches::share(std::uint64_t count) const {
  const auto rank = static_cast<std::uint64_t>(options_.rank);
  const auto world = static_cast<std::uint64_t>(options_.world_size);
  const auto size =
      static_cast<std::uint64_t>(std::max<std::int64_t>(options_.micro_batch_sequences, 1));
  const std::uint64_t parts = (count + size - 1) / size;
  return {std::min(parts * rank / world * size, count),
          std::min(parts * (rank + 1) / world * size, count)};
}

std::vector<Batch> TaskBatches::in_order() const {
  const auto fixed = static_cast<std::uint64_t>(options_.micro_batch_sequences);
  const auto [first, end] = share(sequences_.size());
  std::vector<Batch> batches;
  for (std::uint64_t i = first; i < end; ++i) {
    append(sequences_[i], static_cast<std::uint32_t>(i), fixed > 0 && i % fixed == 0, batches);
  }
  return batches;
}

double TaskBatches::total_weight() const {
  double sum = 0.0;
  for (const TaskSequence& sequence : sequences_) sum += weight(sequence);
  return sum;
}

std::int64_t TaskBatches::steps(std::int64_t epochs) const {
  const auto samples = epochs * static_cast<std::int64_t>(sequences_.size());
  return (samples + options_.batch_size - 1) / options_.batch_size;
}

bool TaskBatches::ends_epoch(std::int64_t step) const {
  const auto size = static_cast<std::int64_t>(sequences_.size());
  return step * options_.batch_size / size > (step - 1) * options_.batch_size / size;
}

double TaskBatches::weight(const TaskSequence& sequence) const {
  const auto of_label = [&](std::int32_t label) {
    if (label == kIgnoreIndex) return 0.0;
    return options_.class_weights.empty() ? 1.0
                                          : options_.class_weights[static_cast<std::size_t>(label)];
  };
  switch (kind_) {
    case TaskKind::classification:
      return of_label(sequence.label);
    case TaskKind::regression:
      return 1.0;
    case TaskKind::token_classification: {
      double sum = 0.0;
      for (const std::int32_t label : sequence.row_labels) sum += of_label(label);
      return sum;
    }
    case TaskKind::question_answering:
      return 2.0;  // where the answer begins, and where it ends
  }
  return 0.0;
}

void TaskBatches::append(const TaskSequence& sequence, std::uint32_t index, bool begin,
                         std::vector<Batch>& batches) const {
  const auto words = static_cast<std::int64_t>(sequence.rows.size());
  const bool fits =
      !batches.empty() && has_room(batches.back(), options_.limits, length(sequence), words);
  BERT_CHECK(fits || begin || options_.micro_batch_sequences == 0);
  if (begin || !fits) batches.emplace_back();
  Batch& batch = batches.back();
  const auto first_row = static_cast<std::int32_t>(batch.num_tokens());
  append_sequence(batch, sequence.input_ids, sequence.token_type_ids, index);

  const auto weigh = [&](std::int32_t label) {
    if (options_.class_weights.empty()) return;
    batch.loss_weights.push_back(
        label == kIgnoreIndex ? 0.0 : options_.class_weights[static_cast<std::size_t>(label)]);
  };
  switch (kind_) {
    case TaskKind::classification:
      batch.sequence_labels.push_back(sequence.label);
      weigh(sequence.label);
      break;
    case TaskKind::regression:
      batch.sequence_values.push_back(static_cast<double>(sequence.value));
      break;
    case TaskKind::token_classification:
      for (const std::int32_t row : sequence.rows) batch.masked_rows.push_back(first_row + row);
      batch.masked_targets.insert(batch.masked_targets.end(), sequence.row_labels.begin(),
                                  sequence.row_labels.end());
      for (const std::int32_t label : sequence.row_labels) weigh(label);
      break;
    case TaskKind::question_answering:
      batch.answer_spans.push_back(sequence.start);
      batch.answer_spans.push_back(sequence.end);
      break;
  }
}

std::int64_t longest_sequence(const std::vector<TaskSequence>& sequences) {
  std::int64_t longest = 0;
  for (const TaskSequence& sequence : sequences) longest = std::max(longest, length(sequence));
  return longest;
}

}  // namespace bert
