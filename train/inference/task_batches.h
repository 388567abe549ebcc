// TaskBatches: the sequences of a task's file as the micro-batches of successive optimizer steps,
// or in their order. What it gives is a pure function of the data and the options; nothing is
// stored but the sequences.
#pragma once

#include <cstdint>
#include <vector>

#include "data/samples/data_loader.h"
#include "train/tasks/task.h"

namespace bert {

struct TaskBatchOptions {
  std::int64_t batch_size = 0;  // sequences of a step, over all ranks
  int rank = 0;
  int world_size = 1;
  MicroBatchLimits limits{};  // each must have room for the longest sequence
  // As LoaderOptions has it.
  std::int64_t micro_batch_sequences = 0;
  std::uint64_t seed = 0;  // of the order
  // What the loss of each label weighs; empty: all the same.
  std::vector<double> class_weights{};
};

class TaskBatches {
 public:
  // Keeps `sequences` by reference.
  TaskBatches(const std::vector<TaskSequence>& sequences, TaskKind kind, TaskBatchOptions options);

  // Step s is elements [s * batch_size, (s + 1) * batch_size) of the infinite shuffled sequence:
  // each epoch is all sequences in another order.
  StepBatches step(std::uint64_t step) const;
  // This rank's share of all sequences, in their order. With micro_batch_sequences these are the
  // same whatever ranks there are, and a rank has whole ones.
  std::vector<Batch> in_order() const;
  // What the sum of all sequences' losses is divided by for their mean.
  double total_weight() const;

  // The steps of so many epochs; the last may reach into the next one.
  std::int64_t steps(std::int64_t epochs) const;
  // Whether an epoch ends with the step that is done as number `step`, from 1 on.
  bool ends_epoch(std::int64_t step) const;

 private:
  struct Share {
    std::uint64_t first = 0, end = 0;
  };
  Share share(std::uint64_t count) const;  // this rank's of so many sequences
  const TaskSequence& shuffled(std::uint64_t element) const;
  // Begins a micro-batch where the last has no room for the sequence.
  void append(const TaskSequence& sequence, std::uint32_t index, bool begin,
              std::vector<Batch>& batches) const;
  double weight(const TaskSequence& sequence) const;  // of its loss

  const std::vector<TaskSequence>& sequences_;
  TaskKind kind_;
  TaskBatchOptions options_;
};

// The tokens of the longest one; 0 without one.
std::int64_t longest_sequence(const std::vector<TaskSequence>& sequences);

}  // namespace bert
