// Pretrainer: the loop over the steps.
#include "train/pretrainer.h"

#include <algorithm>
#include <utility>

#include "train/batch_dump.h"

namespace bert {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

void Pretrainer::run() {
  const StopSignals signals;
  if (log_) say(describe(plan()));
  if (options_.dump_batches && state_.step == 0) save();
  if (state_.step >= config_.train.max_steps) {
    say(fmt::format("nothing to do: step {} of {} is done", state_.step, config_.train.max_steps));
    return;
  }

  if (state_.out_of_patience(config_.evaluation.patience)) {
    say(fmt::format("nothing to do: stopped early at step {}; a larger evaluation.patience goes on",
                    state_.step));
    return;
  }

  // There must be something to go back to.
  if (config_.divergence.policy == OnDivergence::rollback) save();
  if (log_) {
    log_->event(state_.step > 0 ? RunEvent::resume : RunEvent::start, state_.step, "");
  }
  start_phase(state_.step);
  const std::int64_t first_step = state_.step;
  const auto started = Clock::now();
  last_settled_ = started;
  int signal = 0;
  bool go_on = true;
  // A GPU computes one step while the next is queued: a step is settled one step late.
  std::optional<InFlight> before;
  while (go_on && state_.step < config_.train.max_steps) {
    if (state_.step == phase_.end_step) start_phase(state_.step);
    InFlight now = queue_step();
    if (before && settle(*before)) {
      // The one after it was refused as well, and is queued again.
      (void)step_->wait(std::move(now.queued));
      if (step_->fixed_point()) {
        step_->fixed_point()->set_exponent(before->queued.result.gradient_exponent);
      }
      --state_.step;
      again_ = std::move(now.batches);
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
    signal = signals.received_by_any(communicator_);
    bool saves = due(config_.checkpoint.every_steps) || signal != 0;
    bool refused = false;
    // Profiled, a step is over as soon as it is queued: its ops were waited for.
    if (backend_.device->is_cpu() || backend_.profile || evaluates || saves) {
      const std::int64_t step = state_.step;
      refused = settle(*before);
      if (refused) diverged(*before);
      before.reset();
      if (state_.step != step) continue;  // gone back
    }
    const Verdict verdict = evaluates ? evaluate_and_report(!refused) : Verdict{};
    saves = saves || verdict.best || verdict.stop;
    if (at_end || verdict.stop) signal = 0;  // too late to stop anything
    go_on = !verdict.stop && signal == 0;
    if (saves) save();
    if (evaluates || saves) last_settled_ = Clock::now();
    checkpoints_.tell_if_ended();
  }
  checkpoints_.finish(communicator_);
  if (log_) log_->progress().finish();
  if (signal != 0 && log_) {
    log_->event(RunEvent::stop, state_.step,
                fmt::format("stopped by {}; --resume auto goes on", signal_name(signal)));
  }
  say(describe_end(state_.step - first_step, tokens_done_,
                   std::chrono::duration<double>(Clock::now() - started).count(), signal == 0));
  if (backend_.profile) say(backend_.profile->table());
  if (log_) log_->finish();
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
  step.exponent_before = step_->fixed_point() ? step_->fixed_point()->exponent() : 0;
  step.queued =
      step_->queue(*batches, {.done = state_.step,
                              .updates = state_.step - state_.skipped,
                              .learning_rate = schedule_.at(state_.step),
                              .max_loss = monitor_.limit(state_.step + 1, phase_.first_step)});
  step.batches = std::move(*batches);
  ++state_.step;
  return step;
}

bool Pretrainer::settle(InFlight& step) {
  StepResult& result = step.queued.result;
  result = step_->wait(std::move(step.queued));
  if (!result.refused()) {
    state_.refused_in_a_row = 0;
    monitor_.add(result.step, step.phase.first_step, result.main_loss);
  }
  const auto now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - std::exchange(last_settled_, now)).count();
  log_step(result, static_cast<double>(result.tokens) / seconds);
  tokens_done_ += result.tokens;
  if (backend_.profile) backend_.profile->step_took(seconds);
  if (const auto mean = time_estimate_.add(seconds); mean && log_) {
    say(describe_estimate(plan(), result.step, *mean));
  }
  return result.refused();
}

void Pretrainer::save() { checkpoints_.save(state_, monitor_, *step_, backend_); }

void Pretrainer::say(const std::string& line) {
  if (log_) log_->message(line);
}

void Pretrainer::start_phase(std::int64_t step) {
  phase_ = config_.phase_at(step);
  step_->forget_recordings();
  loader_ = std::make_unique<DataLoader>(
      datasets_.at(phase_.sequence_length).training,
      LoaderOptions{.batch_size = phase_.batch_size,
                    .rank = communicator_.rank(),
                    .world_size = communicator_.size(),
                    .limits = {.tokens = phase_capacity(config_, phase_, communicator_.size(),
                                                        state_.auto_micro_batch_tokens)
                                             .tokens,
                               .sequences = capacity_.sequences,
                               .masked = capacity_.masked},
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
