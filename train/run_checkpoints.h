// RunCheckpoints: the checkpoints of a run as they are asked for, written beside it, and told of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/communicator.h"
#include "train/checkpoint/checkpoint_writer.h"
#include "train/checkpoint/loss_monitor.h"
#include "train/logging/run_log.h"
#include "train/step/backend.h"
#include "train/step/training_step.h"

namespace bert {

class RunCheckpoints {
 public:
  // Until it has these (which it has on rank 0 of a real run only) nothing is written. `log` is
  // kept by reference.
  void open(RunLog& log, std::unique_ptr<CheckpointWriter> writer) {
    log_ = &log;
    writer_ = std::move(writer);
  }
  // Makes the checkpoints in `folder` those of a run that begins or goes on at state.step: later
  // ones are set aside. Gives what was done to each of them.
  std::vector<std::string> go_back(const std::filesystem::path& folder, const TrainerState& state);

  // Completes `state` by what others count, and saves it, unless that of its step is safe: waits
  // for the one before, copies, returns.
  void save(TrainerState& state, const LossMonitor& monitor, TrainingStep& step,
            const Backend& backend);
  // Tells of the last one, once, if it has come to an end; or when it has.
  void tell_if_ended();
  void wait();
  // The same as wait() for all ranks, each of which calls it. RuntimeError if the last one could
  // not be written.
  void finish(Communicator& communicator);

  // The other way round: parameters, moments and state from a checkpoint that was verified. What
  // the run computes with (precision, device, ranks, threads, micro-batches) stays as `state` has
  // it.
  static void load(const std::filesystem::path& checkpoint, BertModel& model, TrainingStep& step,
                   LossMonitor& monitor, TrainerState& state);

 private:
  void tell(const std::optional<CheckpointWriter::Outcome>& outcome);

  RunLog* log_ = nullptr;
  std::unique_ptr<CheckpointWriter> writer_;
  std::int64_t saved_step_ = -1;
};

}  // namespace bert
