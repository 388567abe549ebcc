#include "train/training_run.h"

#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/plural.h"
#include "train/rank_agreement.h"
#include "train/run_plan.h"
#include "train/stop_signals.h"

namespace bert {

TrainingRun::TrainingRun(std::filesystem::path run_dir, RunOptions options, const GivenKeys& keys,
                         const RuntimeConfig& runtime, const StepConfig& train,
                         const DivergenceConfig& divergence, Communicator& communicator)
    : options_(std::move(options)),
      communicator_(communicator),
      opening_(std::move(run_dir), options_, communicator_),
      backend_(make_backend(
          runtime, communicator_,
          [&](std::string_view key) { return keys.where(fmt::format("runtime.{}", key)); },
          train.reproducible)),
      divergence_(divergence),
      monitor_(divergence.spike_z_score) {}

void TrainingRun::agree(std::uint64_t seed, const std::string& name, const std::string& data,
                        const BertModel& model, std::int64_t checkpoints) {
  state_.seed = seed;
  state_.precision = precision_name(backend_.precision);
  state_.device = backend_.rounds_as();
  state_.world_size = communicator_.size();
  state_.threads = backend_.threads;
  state_.corpus = data;
  check_ranks_agree(communicator_, {{"the device", backend_.kind()},
                                    {"the precision", state_.precision},
                                    {name, state_.corpus},
                                    {"the tokenizer", tokenizer_->fingerprint()}});
  opening_.check_room(checkpoints, checkpoint_bytes(model.parameters().num_parameters(),
                                                    dtype_size(backend_.ops->statistics_dtype())));
}

void TrainingRun::begin(const std::string& config_yaml, std::int64_t max_steps,
                        const LoggingConfig& logging, const CheckpointConfig& checkpoint,
                        const BertModel& model, std::string task) {
  if (!communicator_.is_root() || options_.dry_run) return;
  log_ = opening_.begin(config_yaml, state_, max_steps, logging.tensorboard, checkpoints_);
  checkpoints_.open(
      *log_, std::make_unique<CheckpointWriter>(opening_.checkpoints(), checkpoint.keep, model,
                                                *tokenizer_, std::move(task)));
}

void TrainingRun::start() {
  if (log_) {
    log_->event(opening_.resumed() ? RunEvent::resume : RunEvent::start, state_.step, "");
    log_->progress().start();
  }
  first_step_ = state_.step;
  started_ = last_settled_ = Clock::now();
}

TrainingStep::Queued TrainingRun::queue(const StepBatches& batches, std::int64_t phase) {
  TrainingStep::Queued queued =
      step_->queue(batches, {.done = state_.step,
                             .updates = state_.step - state_.skipped,
                             .learning_rate = schedule_.at(state_.step),
                             .max_loss = monitor_.limit(state_.step + 1, phase)});
  ++state_.step;
  return queued;
}

double TrainingRun::count(const StepResult& result, std::int64_t phase) {
  const auto now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - std::exchange(last_settled_, now)).count();
  tokens_done_ += result.tokens;
  if (backend_.profile) backend_.profile->step_took(seconds);
  if (!result.refused()) {
    state_.refused_in_a_row = 0;
    monitor_.add(result.step, phase, result.main_loss);
  }
  return seconds;
}

void TrainingRun::refused(const StepResult& result, const std::string& found) {
  step_->allow_updates();
  const std::string why = "refused, and nothing was changed: " + result.why_refused();
  if (log_) log_->event(RunEvent::skip, result.step, why + found);
  const bool too_many = state_.refused_in_a_row + 1 >= divergence_.max_in_a_row;
  if (divergence_.policy != OnDivergence::stop && !too_many) {
    ++state_.skipped;
    ++state_.refused_in_a_row;
    return;
  }
  // As it was before the step, so that a resumed run tries it again.
  --state_.step;
  step_->set_gradient_exponent(result.exponent_before);
  save();
  checkpoints_.finish(communicator_);
  throw_runtime_error(
      "step {}: {}; {}; the state before it is checkpoint {}", result.step, why,
      divergence_.policy == OnDivergence::stop
          ? std::string("divergence.policy is stop")
          : fmt::format("{} in a row, which is divergence.max_in_a_row", divergence_.max_in_a_row),
      checkpoint_name(state_.step));
}

void TrainingRun::tell_evaluation(const nlohmann::ordered_json& record, const std::string& text,
                                  const Verdict& verdict, const std::string& metric) {
  log_->metrics(record, "validation");
  if (verdict.best) {
    log_->event(RunEvent::best, state_.step, text + " (best)");
  } else {
    log_->message(fmt::format("step {}: {}", state_.step, text));
  }
  if (!verdict.stop) return;
  log_->event(RunEvent::stop, state_.step,
              fmt::format("stopping: no better {} than step {}'s in {}", metric, state_.best_step,
                          plural(state_.evaluations_since_best, "evaluation")));
}

void TrainingRun::finish(int signal) {
  checkpoints_.finish(communicator_);
  if (log_) log_->progress().finish();
  if (signal != 0 && log_) {
    log_->event(RunEvent::stop, state_.step,
                fmt::format("stopped by {}; --resume auto goes on", signal_name(signal)));
  }
  say(describe_end(state_.step - first_step_, tokens_done_,
                   std::chrono::duration<double>(Clock::now() - started_).count(), signal == 0));
  if (backend_.profile) say(backend_.profile->table());
  if (log_) log_->finish();
}

}  // namespace bert
