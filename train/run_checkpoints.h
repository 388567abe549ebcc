// RunCheckpoints: the checkpoints of a run as they are asked for, written beside it, and told of.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/communicator.h"
#include "train/checkpoint_writer.h"
#include "train/run_log.h"

namespace bert {

class RunCheckpoints {
 public:
  // Until it has these (which it has on rank 0 of a real run only) nothing is written. `log` is
  // kept by reference.
  void open(RunLog& log, std::unique_ptr<CheckpointWriter> writer) {
    log_ = &log;
    writer_ = std::move(writer);
  }
  // The step of the newest checkpoint that is safe, -1 for none, where the run begins or goes back
  // to.
  void set_saved_step(std::int64_t step) { saved_step_ = step; }

  // Saves the state, unless that of its step is safe: waits for the one before, copies, returns.
  void save(const TrainerState& state, const Moments& moments);
  // Tells of the last one, once, if it has come to an end; or when it has.
  void tell_if_ended();
  void wait();
  // The same as wait() for all ranks, each of which calls it. RuntimeError if the last one could
  // not be written.
  void finish(Communicator& communicator);

 private:
  void tell(const std::optional<CheckpointWriter::Outcome>& outcome);

  RunLog* log_ = nullptr;
  std::unique_ptr<CheckpointWriter> writer_;
  std::int64_t saved_step_ = -1;
};

}  // namespace bert
