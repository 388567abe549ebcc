// TrainingRun: what a run of pre-training and one of fine-tuning are alike in: where it computes,
// how far it is, what it keeps and tells.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "data/tokenization/tokenizer.h"
#include "model/bert_model.h"
#include "runtime/communicator.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/loss_monitor.h"
#include "train/config/config_sections.h"
#include "train/config/lr_schedule.h"
#include "train/logging/run_log.h"
#include "train/run_checkpoints.h"
#include "train/run_opening.h"
#include "train/step/backend.h"
#include "train/step/training_step.h"

namespace bert {

class TrainingRun {
 protected:
  using Clock = std::chrono::steady_clock;

  // `keys`: of the configuration that the rest is of. `communicator` is kept by reference.
  TrainingRun(std::filesystem::path run_dir, RunOptions options, const GivenKeys& keys,
              const RuntimeConfig& runtime, const StepConfig& train,
              const DivergenceConfig& divergence, Communicator& communicator);
  ~TrainingRun() = default;

  // Opening.
  // Fills state_ with what a run computes on and from, in which ranks must agree: `data` is the
  // fingerprint of what is called `name`. InputError where they do not, or where the disk has no
  // room for so many checkpoints of `model`.
  void agree(std::uint64_t seed, const std::string& name, const std::string& data,
             const BertModel& model, std::int64_t checkpoints);
  // Rank 0 of a real run: the run directory, its log and what writes its checkpoints. `task`: as
  // Snapshot has it.
  void begin(const std::string& config_yaml, std::int64_t max_steps, const LoggingConfig& logging,
             const CheckpointConfig& checkpoint, const BertModel& model, std::string task = "");

  // Training. `phase`: the first step of those whose losses are compared.
  void start();  // the clock, and tells that it trains from here on
  // Queues a step of `batches`, and counts it.
  TrainingStep::Queued queue(const StepBatches& batches, std::int64_t phase);
  // Counts what a step has done. Gives the seconds since the one before was settled.
  double count(const StepResult& result, std::int64_t phase);
  // After a step that was refused, the last one queued: says why, and lets updates happen again.
  // RuntimeError where the run must not go on; the state before the step is then saved. `found`:
  // what else is known of it.
  void refused(const StepResult& result, const std::string& found = "");
  // Rank 0: an evaluation by `metric`, of which metrics.jsonl has `record`.
  void tell_evaluation(const nlohmann::ordered_json& record, const std::string& text,
                       const Verdict& verdict, const std::string& metric);
  // To be called by the destructor of what derives from this, whose model both of these use: after
  // a failure the step gives up what it has queued, for which other memory would wait, and the
  // checkpoint that is being written comes to its end.
  void close() {
    step_.reset();
    checkpoints_ = {};
  }
  // The last checkpoint is written, and the end told. `signal`: what stopped the run, or 0.
  void finish(int signal);

  void save() { checkpoints_.save(state_, monitor_, *step_, backend_); }
  void say(const std::string& line) {  // rank 0: to the terminal and log.txt
    if (log_) log_->message(line);
  }

  RunOptions options_;
  Communicator& communicator_;
  RunOpening opening_;
  Backend backend_;
  std::unique_ptr<Tokenizer> tokenizer_;
  LrSchedule schedule_;
  DivergenceConfig divergence_;
  LossMonitor monitor_;

  // Its `step` counts the steps that are queued. On a GPU the last of them may not be settled yet,
  // and is not counted any more where that or the one before turns out to be refused.
  TrainerState state_;
  std::int64_t first_step_ = 0;  // of this process
  std::int64_t tokens_done_ = 0;
  Clock::time_point started_, last_settled_;
  std::unique_ptr<RunLog> log_;  // rank 0 of a real run
  RunCheckpoints checkpoints_;
  std::unique_ptr<TrainingStep> step_;
};

}  // namespace bert
