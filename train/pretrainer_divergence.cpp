// Pretrainer: what follows a step that was refused.
#include <cmath>
#include <utility>

#include "train/pretrainer.h"
#include "train/step_replay.h"

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
  step_->allow_updates();
  std::string why = "refused, and nothing was changed: ";
  if (!std::isfinite(result.loss)) {
    why += std::isnan(result.loss) ? "its loss is NaN" : "its loss is infinite";
  } else if (result.gradient.nonfinite != 0) {
    why += fmt::format("{} elements of its gradient are not finite", result.gradient.nonfinite);
  } else {
    why += fmt::format("its loss is {:.4f}, and above {:.4f} is a spike", result.main_loss,
                       result.max_loss);
  }
  if (!found.empty()) found = fmt::format("\n{}", found.substr(0, found.size() - 1));
  if (log_) log_->event(RunEvent::skip, result.step, why + found);

  const bool too_many = state_.refused_in_a_row + 1 >= config_.divergence.max_in_a_row;
  if (config_.divergence.policy == OnDivergence::stop || too_many) {
    // As it was before the step, so that a resumed run tries it again.
    --state_.step;
    if (step_->fixed_point()) step_->fixed_point()->set_exponent(step.exponent_before);
    save();
    checkpoints_.finish(communicator_);
    throw_runtime_error(
        "step {}: {}; {}; the state before it is checkpoint {}", result.step, why,
        too_many ? fmt::format("{} steps in a row were refused", config_.divergence.max_in_a_row)
                 : std::string("divergence.policy is stop"),
        checkpoint_name(state_.step));
  }
  ++state_.skipped;
  ++state_.refused_in_a_row;
  if (config_.divergence.policy == OnDivergence::rollback) roll_back();
  // What all this took is no part of the next step.
  last_settled_ = std::chrono::steady_clock::now();
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
    throw_runtime_error("step {} diverged after {} rollbacks to {}", left, rollbacks_ - 1,
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
