// DataLoader: the micro-batches of successive optimizer steps, made ahead of time by background
// threads. What it gives is a pure function of dataset and options: not of timing or threads.
//
// Step s of training is elements [s * batch_size, (s + 1) * batch_size) of the dataset's infinite
// shuffled sequence. A rank takes its contiguous slice of them and packs it, in order, into
// micro-batches that stay within the limits. Or a step is cut into micro-batches of a fixed number
// of sequences, whatever the ranks, and a rank takes a contiguous slice of those.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "data/samples/batch.h"
#include "data/samples/dataset_mixture.h"

namespace bert {

// The most a micro-batch may hold; 0: no limit. With all of them set, buffers of these sizes fit
// every micro-batch. Each must have room for one sample of the full sequence length.
struct MicroBatchLimits {
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
  std::int64_t masked = 0;
};

struct LoaderOptions {
  std::int64_t batch_size = 0;  // sequences per optimizer step, over all ranks; >= world_size
  int rank = 0;
  int world_size = 1;
  MicroBatchLimits limits{};
  // 0: as many sequences in a micro-batch as the limits allow. Otherwise micro-batch i of a step is
  // its sequences from i times so many on, the last may have fewer; the limits have room for them.
  std::int64_t micro_batch_sequences = 0;
  // Evaluation: the samples once and in the order of the corpus, with masks that are the same each
  // time; the last step may be smaller.
  bool in_order = false;
  // Step s is elements sequences_before + [s - steps_before, s - steps_before + 1) * batch_size:
  // what a run did with other batch sizes before.
  std::uint64_t sequences_before = 0, steps_before = 0;
  std::uint64_t first_step = 0;                                        // >= steps_before
  std::uint64_t end_step = std::numeric_limits<std::uint64_t>::max();  // first one not given
  int threads = 1;
  int prefetch_steps = 4;  // steps made or being made ahead of the one asked for
};

struct StepBatches {
  std::uint64_t step = 0;
  // Of the dataset: sequence i of the step is element first_element + i.
  std::uint64_t first_element = 0;
  std::vector<Batch> micro_batches;   // of this rank; none if it has no sequence
  std::int64_t global_sequences = 0;  // of the whole step, over all ranks
  std::int64_t sequences = 0;         // of this rank, as are the next two
  std::int64_t tokens = 0;
  std::int64_t masked = 0;
  // Of the whole step: what its loss is divided by. Nothing: the masked tokens of all ranks.
  std::optional<double> loss_weight;
};

// One step by itself, in the caller's thread: what the loader does ahead.
StepBatches make_step(const DatasetMixture& dataset, const LoaderOptions& options,
                      std::uint64_t step);

class DataLoader {
 public:
  // InputError: an option out of range.
  DataLoader(DatasetMixture dataset, const LoaderOptions& options);
  ~DataLoader();
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  // The next step's micro-batches, waited for; nothing after the last step. Rethrows what went
  // wrong while they were made, such as the InputError of a damaged corpus.
  std::optional<StepBatches> next();

 private:
  struct Queue;
  std::unique_ptr<Queue> queue_;
};

}  // namespace bert
