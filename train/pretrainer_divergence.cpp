// Pretrainer: what follows a step that was refused.
#include "runtime/plural.h"
#include "train/pretrainer.h"
#include "train/step/step_replay.h"

namespace bert {
namespace fs = std::filesystem;

void Pretrainer::diverged(const InFlight& step) {
  const StepResult& result = step.queued.result;
  StepReplay replay(*model_, backend_, step_->memory(),
                    datasets_.at(step.phase.sequence_length).training);
  const DropoutKey dropout{config_.seed, static_cast<std::uint32_t>(result.step - 1)};
  std::string found;
  for (const std::string& text :
       communicator_.all_gather(replay.explain(step.batches, dropout, result.masked))) {
    if (found.find(text) == std::string::npos) found += text;  // what all ranks see, once
  }
  if (!found.empty()) found = fmt::format("\n{}", found.substr(0, found.size() - 1));
  refused(result, found);
  if (config_.divergence.policy == OnDivergence::rollback) roll_back();
  // What all this took is no part of the next step.
  last_settled_ = Clock::now();
}

void Pretrainer::roll_back() {
  const std::int64_t left = state_.step;
  const std::uint64_t position = sequences_before(left) + state_.passed_over;
  std::string checkpoint;
  if (log_) {
    checkpoints_.wait();
    try {
      const auto newest = newest_checkpoint(
          opening_.checkpoints(), [&](const std::string& damage) { say("warning: " + damage); });
      if (newest) checkpoint = newest->string();
    } catch (const InputError& damage) {
      say(fmt::format("warning: {}", damage.what()));
    }
  }
  communicator_.broadcast(checkpoint);
  if (checkpoint.empty()) throw_runtime_error("there is no checkpoint to go back to");
  RunCheckpoints::load(checkpoint, *model_, *step_, monitor_, state_);
  rollbacks_ = rolled_back_to_ == state_.step ? rollbacks_ + 1 : 1;
  rolled_back_to_ = state_.step;
  if (rollbacks_ > config_.divergence.max_in_a_row) {
    throw_runtime_error("step {} diverged after {} to {}", left, plural(rollbacks_ - 1, "rollback"),
                        checkpoint);
  }
  state_.passed_over = position - sequences_before(state_.step);
  if (log_) {
    for (const std::string& told : checkpoints_.go_back(opening_.checkpoints(), state_)) {
      say("warning: " + told);
    }
    log_->go_back(state_.step);
    log_->event(RunEvent::rollback, left,
                fmt::format("went back to {}, and on with the batches after", checkpoint));
  }
  again_.reset();
  start_phase(state_.step);
}

}  // namespace bert
