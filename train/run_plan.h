// RunPlan: what a run will do and take, known before its first step; for people and for scripts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/samples/corpus_set.h"
#include "model/bert_config.h"
#include "train/config/config.h"
#include "train/memory_plan.h"

namespace bert {

// The steps [first_step, end_step).
struct PhasePlan {
  std::int64_t first_step = 0, end_step = 0;
  std::int64_t sequence_length = 0, batch_size = 0;
  std::int64_t micro_batch_tokens = 0;  // at most, on each rank
  std::uint64_t samples = 0;            // of an epoch
  double sample_tokens = 0.0;           // on average

  std::int64_t steps() const { return end_step - first_step; }
  std::int64_t step_tokens_at_most() const { return batch_size * sequence_length; }
  double step_tokens() const { return static_cast<double>(batch_size) * sample_tokens; }
  double steps_per_epoch() const {
    return static_cast<double>(samples) / static_cast<double>(batch_size);
  }
};

struct RunPlan {
  BertConfig model;
  std::int64_t parameters = 0;
  std::vector<std::string> corpora;  // folders
  std::vector<double> shares;        // of the samples, a corpus each; empty: by size
  CorpusCounts training, validation;
  std::vector<PhasePlan> phases;
  int ranks = 1;
  std::string communication;      // "MPI, gradients by NCCL 2.28.9, f32"
  std::string computing;          // "cpu f32 with avx2 instructions, 2 threads"
  MemoryPlan memory;              // of a rank
  std::size_t memory_for_it = 0;  // that it may take of its device
  std::size_t checkpoint_bytes = 0;
  std::int64_t checkpoint_every = 0, checkpoints_kept = 0;
  std::int64_t micro_batch_sequences = 0;  // with train.reproducible
  std::int64_t max_steps = 0, first_step = 0;
  std::string beginning;  // RunOpening::beginning
  std::string run_dir;

  double epochs() const;  // of all phases
  double tokens() const;
};

// Tokens of a sample, special ones included: the mean of the first few hundred of training.
double mean_sample_tokens(const DatasetMixture& training);

// How many checkpoints of a run lie on disk at once at most: those kept, the best, and the one
// being written before an older one goes.
std::int64_t most_checkpoints(const Config& config);

// Bytes of a checkpoint: parameters and both moments. `number`: the bytes of one of them.
std::size_t checkpoint_bytes(std::int64_t parameters, std::size_t number);

// Some lines, without a newline at the end.
std::string describe(const RunPlan& plan);
nlohmann::ordered_json to_json(const RunPlan& plan);

// How long the rest of a run takes: from a few steps at its beginning, when the very first, slower
// ones are over.
class TimeEstimate {
 public:
  static constexpr int kSkipped = 3, kTimed = 10;

  // The seconds of the next step, evaluations and checkpoints aside. Once, the mean of kTimed.
  std::optional<double> add(double seconds);

 private:
  int steps_ = 0;
  double sum_ = 0.0;
};

// "estimated: 0.93 s a step, 3h12m for the rest without evaluations, a checkpoint every 2m01s".
// `step` are done, the last of which take `seconds` each; those of another phase are taken to
// differ as their tokens do.
std::string describe_estimate(const RunPlan& plan, std::int64_t step, double seconds);
// "finished: 40 steps in 1m12s, 0.42 s a step, 8.8k tokens/s, evaluations and checkpoints
// included"; "stopped: ..." where more was to be done.
std::string describe_end(std::int64_t steps, std::int64_t tokens, double seconds, bool finished);

}  // namespace bert
