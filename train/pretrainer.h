// Pretrainer: the training run. Reads top to bottom as what happens: open what the configuration
// names, check it, make or resume the run directory, then step, evaluate, save.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "data/corpus.h"
#include "data/data_loader.h"
#include "model/bert_for_pretraining.h"
#include "runtime/communicator.h"
#include "train/backend.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/evaluator.h"
#include "train/loss_monitor.h"
#include "train/run_checkpoints.h"
#include "train/run_log.h"
#include "train/run_opening.h"
#include "train/run_plan.h"
#include "train/stop_signals.h"
#include "train/training_step.h"

namespace bert {

class Pretrainer {
 public:
  // Opens and checks everything; InputError before anything is written.
  Pretrainer(Config config, RunOptions options, Communicator& communicator);
  ~Pretrainer();

  // What will be run: sizes, memory, steps.
  RunPlan plan() const;
  // Trains to the end. Not under dry_run.
  void run();

 private:
  // The samples of one sequence length.
  struct Datasets {
    DatasetMixture training, validation;
  };

  // Opening.
  DatasetOptions dataset_options(std::int64_t sequence_length, std::uint64_t seed) const;
  void open_datasets();
  void check_datasets() const;
  void plan_micro_batches();
  void open_run_directory();
  void load_first_weights();
  void resume_from(const std::filesystem::path& checkpoint);
  void start_phase(std::int64_t step);

  // Training.
  // A step that is queued, and its batches, which it may have to be made of again.
  struct InFlight {
    TrainingStep::Queued queued;
    StepBatches batches;
    Phase phase;
    int exponent_before = 0;  // of TrainingStep::fixed_point
  };
  InFlight queue_step();
  // Waits for the step, counts and logs it. Whether it was refused.
  bool settle(InFlight& step);
  // After a step that was refused, the last: says why and does what divergence.policy wants.
  void diverged(const InFlight& step);
  void roll_back();
  std::uint64_t sequences_before(std::int64_t step) const;
  void log_step(const StepResult& result, double tokens_per_second);
  std::optional<double> utilisation(const StepResult& result, double tokens_per_second) const;
  // What an evaluation says of the run.
  struct Verdict {
    bool best = false;  // no evaluation before had a smaller loss
    bool stop = false;  // the patience is exhausted
  };
  // `updated`: by the step before, whose gradients are still there.
  Verdict evaluate_and_report(bool updated);
  void report_samples();
  void save();
  void say(const std::string& line);  // rank 0: to the terminal and log.txt

  Config config_;
  RunOptions options_;
  Communicator& communicator_;
  RunOpening opening_;
  Backend backend_;
  CorpusSet corpora_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<BertForPretraining> model_;
  LrSchedule schedule_;
  Capacity capacity_;
  MemoryPlan memory_;
  std::size_t memory_for_a_rank_ = 0;          // before it is taken
  std::map<std::int64_t, Datasets> datasets_;  // by sequence length, for all phases
  std::unique_ptr<Evaluator> evaluator_;
  std::chrono::steady_clock::time_point last_settled_;
  TimeEstimate time_estimate_;
  std::int64_t tokens_done_ = 0;  // by this process

  TrainerState state_;
  bool resumed_ = false;  // from a checkpoint
  LossMonitor monitor_;
  Phase phase_;
  std::unique_ptr<DataLoader> loader_;
  std::optional<StepBatches> again_;  // of a step that was refused with the one before it
  std::int64_t rolled_back_to_ = -1, rollbacks_ = 0;
  std::unique_ptr<RunLog> log_;  // rank 0 of a real run
  RunCheckpoints checkpoints_;
  // The last member: after a failure no other memory may wait for what it has queued.
  std::unique_ptr<TrainingStep> step_;
};

}  // namespace bert
