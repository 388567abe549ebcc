// Pretrainer: the training run. Reads top to bottom as what happens: open what the configuration
// names, check it, make or resume the run directory, then step, evaluate, save.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "data/samples/data_loader.h"
#include "data/shards/corpus.h"
#include "model/bert_for_pretraining.h"
#include "runtime/communicator.h"
#include "train/config/config.h"
#include "train/run_plan.h"
#include "train/step/evaluator.h"
#include "train/stop_signals.h"
#include "train/training_run.h"

namespace bert {

class Pretrainer : private TrainingRun {
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
  };
  // To the end, or until one of `signals` comes, whose number it gives; 0: none did.
  int train(const StopSignals& signals);
  InFlight queue_step();
  // Waits for the step, counts and logs it. Whether it was refused.
  bool settle(InFlight& step);
  // Takes back what was queued after a step that was refused: it was refused as well, and is queued
  // again.
  void take_back(InFlight after);
  // After a step that was refused, the last: says why and does what divergence.policy wants.
  void diverged(const InFlight& step);
  void roll_back();
  std::uint64_t sequences_before(std::int64_t step) const;
  void log_step(const InFlight& step, double tokens_per_second);
  std::optional<double> utilisation(const InFlight& step, double tokens_per_second) const;
  // `updated`: by the step before, whose gradients are still there.
  Verdict evaluate_and_report(bool updated);
  void report_samples();

  Config config_;
  CorpusSet corpora_;
  std::unique_ptr<BertForPretraining> model_;
  Capacity capacity_;
  MemoryPlan memory_;
  std::size_t memory_for_a_rank_ = 0;          // before it is taken
  std::map<std::int64_t, Datasets> datasets_;  // by sequence length, for all phases
  std::unique_ptr<Evaluator> evaluator_;
  TimeEstimate time_estimate_;
  Phase phase_;
  std::unique_ptr<DataLoader> loader_;
  std::optional<StepBatches> again_;  // of a step that was refused with the one before it
  std::int64_t rolled_back_to_ = -1, rollbacks_ = 0;
};

}  // namespace bert
