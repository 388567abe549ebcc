// Pretrainer: the loop over the steps.
#include "train/pretrainer.h"

#include <algorithm>
#include <utility>

#include "train/batch_dump.h"
#include "train/step/micro_batch_limits.h"

namespace bert {

void Pretrainer::run() {
  const StopSignals signals;
  if (log_) say(describe(plan()));
  if (options_.dump_batches && state_.step == 0) save();
  if (state_.step >= config_.train.max_steps) {
    return say(fmt::format("nothing to do: step {} is done, and train.max_steps is {}", state_.step,
                           config_.train.max_steps));
  }
  if (state_.out_of_patience(config_.evaluation.patience)) {
    return say(
        fmt::format("nothing to do: stopped early at step {}; a larger evaluation.patience goes on",
                    state_.step));
  }
  // There must be something to go back to.
  if (config_.divergence.policy == OnDivergence::rollback) save();
  start_phase(state_.step);
  start();
  finish(train(signals));
}

int Pretrainer::train(const StopSignals& signals) {
  // A GPU computes one step while the next is queued: a step is settled one step late.
  std::optional<InFlight> before;
  while (state_.step < config_.train.max_steps) {
    if (state_.step == phase_.end_step) start_phase(state_.step);
    InFlight now = queue_step();
    if (before && settle(*before)) {
      take_back(std::move(now));
      diverged(*before);
      before.reset();
      continue;
    }
    before = std::move(now);

    const bool at_end = state_.step == config_.train.max_steps;
    const auto due = [&](std::int64_t every) {
      return at_end || (every > 0 && state_.step % every == 0);
    };
    const bool evaluates = due(config_.evaluation.every_steps);
    const int signal = signals.received_by_any(communicator_);
    bool saves = due(config_.checkpoint.every_steps) || signal != 0;
    bool updated = true;
    // Profiled, a step is over as soon as it is queued: its ops were waited for.
    if (backend_.device->is_cpu() || backend_.profile || evaluates || saves) {
      const std::int64_t step = state_.step;
      updated = !settle(*before);
      if (!updated) diverged(*before);
      before.reset();
      if (state_.step != step) continue;  // gone back
    }
    const Verdict verdict = evaluates ? evaluate_and_report(updated) : Verdict{};
    saves = saves || verdict.best || verdict.stop;
    if (saves) save();
    if (evaluates || saves) last_settled_ = Clock::now();
    checkpoints_.tell_if_ended();
    if (at_end || verdict.stop) break;  // too late for a signal to stop anything
    if (signal != 0) return signal;
  }
  return 0;
}

Pretrainer::InFlight Pretrainer::queue_step() {
  std::optional<StepBatches> batches = std::exchange(again_, std::nullopt);
  if (!batches) {
    batches = loader_->next();
    BERT_CHECK(batches.has_value());
    if (options_.dump_batches) dump_batches(*options_.dump_batches, state_.step, *batches);
  }
  InFlight step;
  step.phase = phase_;
  step.queued = queue(*batches, phase_.first_step);
  step.batches = std::move(*batches);
  return step;
}

bool Pretrainer::settle(InFlight& step) {
  StepResult& result = step.queued.result;
  result = step_->wait(std::move(step.queued));
  const double seconds = count(result, step.phase.first_step);
  log_step(step, static_cast<double>(result.tokens) / seconds);
  if (const auto mean = time_estimate_.add(seconds); mean && log_) {
    say(describe_estimate(plan(), result.step, *mean));
  }
  return result.refused();
}

void Pretrainer::take_back(InFlight after) {
  const StepResult result = step_->wait(std::move(after.queued));
  step_->set_gradient_exponent(result.exponent_before);
  --state_.step;
  again_ = std::move(after.batches);
}

void Pretrainer::start_phase(std::int64_t step) {
  phase_ = config_.phase_at(step);
  step_->forget_recordings();
  evaluator_->forget_recordings();
  MicroBatchLimits limits = limits_of(capacity_);
  limits.tokens =
      phase_capacity(config_, phase_, communicator_.size(), state_.auto_micro_batch_tokens).tokens;
  loader_ = std::make_unique<DataLoader>(
      datasets_.at(phase_.sequence_length).training,
      LoaderOptions{.batch_size = phase_.batch_size,
                    .rank = communicator_.rank(),
                    .world_size = communicator_.size(),
                    .limits = limits,
                    .micro_batch_sequences = config_.train.micro_batch_sequences(),
                    // Where its batches go on from.
                    .sequences_before = sequences_before(phase_.first_step) + state_.passed_over,
                    .steps_before = static_cast<std::uint64_t>(phase_.first_step),
                    .first_step = static_cast<std::uint64_t>(step),
                    .end_step = static_cast<std::uint64_t>(phase_.end_step),
                    .threads = static_cast<int>(config_.data.threads),
                    .prefetch_steps = static_cast<int>(config_.data.prefetch)});
}

// Of all the steps before, each of its phase's size.
std::uint64_t Pretrainer::sequences_before(std::int64_t step) const {
  std::uint64_t seen = 0;
  for (const Phase& phase : config_.phases()) {
    const std::int64_t end = std::min(step, phase.end_step);
    if (end <= phase.first_step) break;
    seen += static_cast<std::uint64_t>((end - phase.first_step) * phase.batch_size);
  }
  return seen;
}

}  // namespace bert
