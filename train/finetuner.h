// Finetuner: one fine-tuning run, with one seed: a pre-trained encoder and the head of a task,
// trained on a file of examples, judged on another after each epoch, and the best of it kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/bert_for_task.h"
#include "model/model_files.h"
#include "runtime/communicator.h"
#include "train/config/finetune_config.h"
#include "train/inference/task_batches.h"
#include "train/stop_signals.h"
#include "train/tasks/task.h"
#include "train/training_run.h"

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

class Finetuner : private TrainingRun {
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
  void choose_micro_batches();
  void make_batches();
  std::vector<double> class_weights() const;
  void load_encoder();
  void open_run_directory();
  void resume_from(const std::filesystem::path& checkpoint);
  void check_same_task(const std::filesystem::path& checkpoint) const;
  void check_same_data(const std::string& checkpoint, const std::string& corpus) const;

  // Training.
  void train();
  bool finished() const {
    return state_.step >= max_steps_ || state_.out_of_patience(config_.evaluation.patience);
  }
  void settle(TrainingStep::Queued queued);
  Verdict evaluate_and_report();
  void note_metrics(const char* split, const std::vector<Metric>& metrics);

  // The outputs for a whole split, and the sums of its losses, on every rank.
  TaskOutputs outputs(const Split& split, LossSums& sums);
  // The metrics of a split, and its predictions written to run_dir/NAME.
  std::vector<Metric> judge(const Split& split, const std::string& predictions);

  FinetuneConfig config_;
  std::uint64_t seed_;
  std::filesystem::path run_dir_;
  ModelDescription encoder_;  // in model.init_from
  std::unique_ptr<Task> task_;
  std::string metric_;
  std::unique_ptr<BertForTask> model_;
  Split training_, validation_, test_;  // test: empty without a file
  Capacity capacity_;
  DeviceBuffer loss_memory_;  // a ModelLoss, of evaluations
  std::vector<double> class_weights_;
  std::int64_t max_steps_ = 0, steps_per_epoch_ = 0;
  const StopSignals& signals_;
  int signal_ = 0;
};

}  // namespace bert
