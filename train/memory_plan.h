// MemoryPlan: what a run will take, counted before anything is allocated, and how large its
// micro-batches can be in the memory there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "model/bert_for_pretraining.h"
#include "runtime/communicator.h"
#include "train/backend.h"
#include "train/config.h"

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
// has fewer sequences than there are ranks, or its micro-batch no room for one.
Capacity phase_capacity(const Config& config, const Phase& phase, int ranks,
                        std::int64_t auto_tokens);
// Enough for all phases.
Capacity run_capacity(const Config& config, int ranks, std::int64_t auto_tokens);

// More tokens than this in a micro-batch gain nothing and cost memory.
constexpr std::int64_t most_auto_tokens(bool on_cpu) { return on_cpu ? 4096 : 32768; }

// Bytes that this rank may take of its device: on a CPU, its share among the ranks of its machine
// of what is available beside rank 0's `snapshot`.
std::size_t memory_for_a_rank(const Backend& backend, const Communicator& communicator,
                              std::size_t snapshot);

// The least of all ranks' values; to be called by all.
std::int64_t least_of_ranks(Communicator& communicator, std::int64_t value);

// `auto_tokens` of a run: the largest sixteenth of most_auto_tokens with which every rank has the
// memory and a tenth to spare, or `earlier`, what the run chose before, while there is memory for
// it. The same on all ranks; to be called by all. InputError, saying what would help, when the
// least that the configuration asks for needs more than there is.
std::int64_t choose_auto_tokens(const Config& config, BertForPretraining& model,
                                const Backend& backend, Communicator& communicator,
                                std::optional<std::int64_t> earlier);

}  // namespace bert
