// MemoryPlan: what a run will take, counted before anything is allocated, and how large its
// micro-batches can be in the memory there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "model/bert_model.h"
#include "runtime/communicator.h"
#include "train/config/config.h"
#include "train/step/backend.h"

namespace bert {

// Bytes of one rank.
struct MemoryPlan {
  std::size_t parameters = 0, compute_copies = 0, gradients = 0, moments = 0;
  std::size_t fixed_point_sums = 0;  // of the gradients, with train.reproducible
  std::size_t activations = 0;       // what backward needs of a micro-batch, and its own
  std::size_t batch = 0;             // a micro-batch's ids and labels, on the device and beside it
  std::size_t workspace = 0;         // of products and other operations: an allowance, not a count
  std::size_t snapshot = 0;          // host memory of rank 0 while a checkpoint is written

  // Of the device; of the host without the snapshot, where the device is the CPU.
  std::size_t total() const {
    return parameters + compute_copies + gradients + fixed_point_sums + moments + activations +
           batch + workspace;
  }
};

// `model` has no memory yet.
MemoryPlan plan_memory(BertModel& model, const Backend& backend, const Capacity& capacity,
                       const StepConfig& step);

// What a micro-batch of `phase` can hold on one of `ranks` ranks. `auto_tokens`: the most tokens
// where train.micro_batch_tokens is auto, though always a whole sequence. InputError where a phase
// has fewer sequences than there are ranks.
Capacity phase_capacity(const Config& config, const Phase& phase, int ranks,
                        std::int64_t auto_tokens);
// Enough for all phases.
Capacity run_capacity(const Config& config, int ranks, std::int64_t auto_tokens);

// Bytes that this rank may take of its device: on a CPU, its share among the ranks of its machine
// of what is available beside rank 0's `snapshot`.
std::size_t memory_for_a_rank(const Backend& backend, const Communicator& communicator,
                              std::size_t snapshot);

// The least of all ranks' values; to be called by all.
std::int64_t least_of_ranks(Communicator& communicator, std::int64_t value);

// How large the micro-batches of a run may be.
struct MicroBatchRange {
  std::function<Capacity(std::int64_t)> capacity;  // of those of so many tokens
  std::int64_t least = 0, most = 0;                // tokens
  std::optional<std::int64_t> earlier;             // what the run chose before
  // Of errors: where the size is said, and whether it is given there.
  std::string where;
  bool given = false;
};

// The tokens of a micro-batch: as many of the range, in steps of a sixteenth of the most, as leave
// every rank a tenth of its memory to spare; or those of earlier, while there is memory for them.
// The same on all ranks; to be called by all. InputError, saying what would help, where the least
// needs more than there is.
std::int64_t choose_tokens(const MicroBatchRange& range, const StepConfig& step, BertModel& model,
                           const Backend& backend, Communicator& communicator);

// `auto_tokens` of pre-training, chosen so: up to good_batch_tokens.
std::int64_t choose_auto_tokens(const Config& config, BertModel& model, const Backend& backend,
                                Communicator& communicator, std::optional<std::int64_t> earlier);

}  // namespace bert
