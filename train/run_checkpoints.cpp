#include "train/run_checkpoints.h"

#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

std::vector<std::string> RunCheckpoints::go_back(const fs::path& folder,
                                                 const TrainerState& state) {
  std::vector<std::string> told;
  for (const fs::path& moved : set_aside_checkpoints(folder, state.step)) {
    told.push_back(fmt::format("going on from step {}; a later checkpoint is now {}", state.step,
                               moved.string()));
  }
  remove_unfinished_checkpoints(folder);
  set_links(folder, state.step, state.best_step);
  saved_step_ = fs::exists(folder / checkpoint_name(state.step)) ? state.step : -1;
  return told;
}

void RunCheckpoints::save(TrainerState& state, const LossMonitor& monitor, TrainingStep& step,
                          const Backend& backend) {
  state.losses = monitor.statistics();
  state.gradient_exponent = step.gradient_exponent();
  state.product_choices = backend.product_choices ? backend.product_choices() : "";
  if (!writer_) return;
  wait();
  if (saved_step_ == state.step) return;  // what it was resumed from, or has just been saved
  writer_->save(state, step.moments());
}

void RunCheckpoints::load(const fs::path& checkpoint, BertModel& model, TrainingStep& step,
                          LossMonitor& monitor, TrainerState& state) {
  const TrainerState now = std::exchange(state, load_checkpoint(checkpoint, model, step.moments()));
  state.precision = now.precision;
  state.device = now.device;
  state.world_size = now.world_size;
  state.threads = now.threads;
  state.auto_micro_batch_tokens = now.auto_micro_batch_tokens;
  monitor.set_statistics(state.losses);
  step.set_gradient_exponent(state.gradient_exponent);
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
