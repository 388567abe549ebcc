#include "train/run_checkpoints.h"

#include "runtime/error.h"

namespace bert {

void RunCheckpoints::save(const TrainerState& state, const Moments& moments) {
  if (!writer_) return;
  wait();
  if (saved_step_ == state.step) return;  // what it was resumed from, or has just been saved
  writer_->save(state, moments);
}

void RunCheckpoints::tell_if_ended() {
  if (writer_) tell(writer_->ended());
}

void RunCheckpoints::wait() {
  if (writer_) tell(writer_->wait());
}

void RunCheckpoints::tell(const std::optional<CheckpointWriter::Outcome>& outcome) {
  if (!outcome) return;
  if (outcome->error.empty()) {
    saved_step_ = outcome->step;
    log_->event(RunEvent::checkpoint, outcome->step,
                fmt::format("checkpoint written in {:.1f} s", outcome->seconds));
    return;
  }
  // The ones before it are still there, and the next may find room again.
  log_->message(fmt::format("warning: the checkpoint of step {} could not be written: {}",
                            outcome->step, outcome->error));
}

void RunCheckpoints::finish(Communicator& communicator) {
  if (writer_) {
    const std::optional<CheckpointWriter::Outcome> outcome = writer_->wait();
    if (outcome && !outcome->error.empty()) {
      throw_runtime_error("the last checkpoint, of step {}, could not be written: {}",
                          outcome->step, outcome->error);
    }
    tell(outcome);
  }
  communicator.barrier();  // all know that it is done
}

}  // namespace bert
