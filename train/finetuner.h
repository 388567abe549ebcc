// Finetuner: one fine-tuning run, with one seed: a pre-trained encoder and the head of a task,
// trained on a file of examples, judged on another after each epoch, and the best of it kept.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/bert_for_task.h"
#include "runtime/communicator.h"
#include "train/backend.h"
#include "train/checkpoint.h"
#include "train/finetune_config.h"
#include "train/loss_monitor.h"
#include "train/run_checkpoints.h"
#include "train/run_log.h"
#include "train/run_opening.h"
#include "train/stop_signals.h"
#include "train/task.h"
#include "train/task_batches.h"
#include "train/training_step.h"

namespace bert {

// Of the best checkpoint.
struct FinetuneResult {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::string metric;  // the one that chose it
  std::vector<Metric> validation, test;
  std::vector<std::string> shown;  // the names of the metrics that matter
  bool finished = true;            // false: a signal ended the run before its last step
};

class Finetuner {
 public:
  // Opens and checks everything; InputError before anything is written. `run_dir`: of this seed.
  // The last two are kept by reference.
  Finetuner(FinetuneConfig config, std::uint64_t seed, std::filesystem::path run_dir,
            RunOptions options, const StopSignals& signals, Communicator& communicator);
  ~Finetuner();

  // Some lines: the model, the data, the steps.
  std::string plan() const;
  // Not under dry_run. Trains to the end, then judges the best checkpoint and writes its
  // predictions beside it: predictions_validation.jsonl, predictions_test.jsonl. All ranks return
  // the same.
  FinetuneResult run();

 private:
  // A file's examples and their batches.
  struct Split {
    std::unique_ptr<TaskDataset> dataset;
    std::vector<TaskSequence> sequences;  // those that are used
    std::unique_ptr<TaskBatches> batches;
  };

  // Opening.
  void open_model();
  Split read(const std::string& file, Purpose purpose, std::int64_t most_examples);
  void plan_micro_batches();
  std::vector<double> class_weights() const;
  void load_encoder();
  void open_run_directory();
  void resume_from(const std::filesystem::path& checkpoint);
  void check_same_data(const std::string& checkpoint, const std::string& corpus) const;

  // Training.
  void train();
  bool finished() const {
    return state_.step >= max_steps_ || state_.out_of_patience(config_.evaluation.patience);
  }
  // `exponent_before`: of TrainingStep::fixed_point, before the step.
  void settle(TrainingStep::Queued queued, int exponent_before);
  void refused(const StepResult& result, int exponent_before);
  // What an evaluation says of the run.
  struct Verdict {
    bool best = false, stop = false;
  };
  Verdict evaluate_and_report();
  void note_metrics(const char* split, const std::vector<Metric>& metrics);
  void save();
  void say(const std::string& line);

  // The outputs for a whole split, on every rank; `sums`, if given, become those of its losses.
  TaskOutputs outputs(const Split& split, LossSums* sums);
  // The metrics of a split, and its predictions written to run_dir/NAME.
  std::vector<Metric> judge(const Split& split, const std::string& predictions);

  FinetuneConfig config_;
  std::uint64_t seed_;
  std::filesystem::path run_dir_;
  RunOptions options_;
  Communicator& communicator_;
  RunOpening opening_;
  Backend backend_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Task> task_;
  std::string metric_;
  std::unique_ptr<BertForTask> model_;
  Split training_, validation_, test_;  // test: empty without a file
  MicroBatchLimits limits_;
  Capacity capacity_;
  std::vector<double> class_weights_;
  std::int64_t max_steps_ = 0, steps_per_epoch_ = 0;
  LrSchedule schedule_;
  LossMonitor monitor_;
  const StopSignals& signals_;

  TrainerState state_;
  std::int64_t tokens_done_ = 0;
  int signal_ = 0;
  std::chrono::steady_clock::time_point last_settled_;
  std::unique_ptr<RunLog> log_;  // rank 0 of a real run
  RunCheckpoints checkpoints_;
  std::unique_ptr<TrainingStep> step_;  // the last member, as in Pretrainer
};

}  // namespace bert
