// Finetuner: the loop over the steps.
#include "train/finetuner.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "runtime/file.h"
#include "train/batch_dump.h"
#include "train/layer_gradient_norms.h"
#include "train/run_plan.h"
#include "train/task_inference.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

using Clock = std::chrono::steady_clock;

double value_of(const std::vector<Metric>& metrics, const std::string& name) {
  const auto found = std::find_if(metrics.begin(), metrics.end(),
                                  [&](const Metric& metric) { return metric.name == name; });
  BERT_CHECK(found != metrics.end(), "{}", name);
  return found->value;
}

}  // namespace

FinetuneResult Finetuner::run() {
  FinetuneResult result;
  result.seed = seed_;
  result.metric = metric_;
  result.shown = task_->metric_names();
  say(plan());
  train();
  result.finished = signal_ == 0;
  result.step = state_.best_step;
  if (!result.finished) return result;

  if (state_.best_step == 0) {
    throw_runtime_error("no evaluation had a {} that is a number: there is no best checkpoint",
                        metric_);
  }
  const fs::path best = run_dir_ / "checkpoints" / checkpoint_name(state_.best_step);
  verify_model_files(best);
  load_parameters(*open_weights(best), model_->parameters());
  result.validation = judge(validation_, "predictions_validation.jsonl");
  if (test_.dataset) result.test = judge(test_, "predictions_test.jsonl");
  // finetune prints them, over all seeds.
  note_metrics("validation", result.validation);
  note_metrics("test", result.test);
  return result;
}

void Finetuner::train() {
  if (finished()) {
    say(fmt::format("nothing to train: step {} of {} is done", state_.step, max_steps_));
    // The best checkpoint is judged as it would have been after the last step.
    if (backend_.stop_choosing_products) backend_.stop_choosing_products();
    return;
  }
  if (log_) log_->event(state_.step > 0 ? RunEvent::resume : RunEvent::start, state_.step, "");
  if (options_.dump_batches && state_.step == 0) save();
  const std::int64_t first_step = state_.step;
  const Clock::time_point started = Clock::now();
  last_settled_ = started;
  StepBatches batches = training_.batches->step(static_cast<std::uint64_t>(state_.step));
  for (bool go_on = true; go_on && state_.step < max_steps_;) {
    if (options_.dump_batches) dump_batches(*options_.dump_batches, state_.step, batches);
    const int exponent_before = step_->fixed_point() ? step_->fixed_point()->exponent() : 0;
    TrainingStep::Queued queued =
        step_->queue(batches, {.done = state_.step,
                               .updates = state_.step - state_.skipped,
                               .learning_rate = schedule_.at(state_.step),
                               .max_loss = monitor_.limit(state_.step + 1, 0)});
    ++state_.step;
    const bool at_end = state_.step == max_steps_;
    // Made while a GPU computes.
    if (!at_end) batches = training_.batches->step(static_cast<std::uint64_t>(state_.step));
    settle(std::move(queued), exponent_before);

    const auto due = [&](std::int64_t every) { return every > 0 && state_.step % every == 0; };
    const bool evaluates =
        at_end || (config_.evaluation.every_steps > 0 ? due(config_.evaluation.every_steps)
                                                      : training_.batches->ends_epoch(state_.step));
    signal_ = signals_.received_by_any(communicator_);
    const Verdict verdict = evaluates ? evaluate_and_report() : Verdict{};
    const bool saves = evaluates || signal_ != 0 || due(config_.checkpoint.every_steps);
    if (saves) save();
    // The best one is needed at the end: a run that cannot keep it must not go on.
    if (verdict.best) checkpoints_.finish(communicator_);
    if (at_end || verdict.stop) signal_ = 0;  // too late to stop anything
    go_on = !verdict.stop && signal_ == 0;
    if (saves) last_settled_ = Clock::now();
    checkpoints_.tell_if_ended();
  }
  checkpoints_.finish(communicator_);
  if (log_) log_->progress().finish();
  if (signal_ != 0 && log_) {
    log_->event(RunEvent::stop, state_.step,
                fmt::format("stopped by {}; --resume auto goes on", signal_name(signal_)));
  }
  say(describe_end(state_.step - first_step, tokens_done_,
                   std::chrono::duration<double>(Clock::now() - started).count(), signal_ == 0));
  if (backend_.profile) say(backend_.profile->table());
  if (log_) log_->finish();
}

void Finetuner::settle(TrainingStep::Queued queued, int exponent_before) {
  const StepResult result = step_->wait(std::move(queued));
  const Clock::time_point now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - std::exchange(last_settled_, now)).count();
  const double tokens_per_second = static_cast<double>(result.tokens) / seconds;
  tokens_done_ += result.tokens;
  if (backend_.profile) backend_.profile->step_took(seconds);
  if (log_) {
    log_->progress().update({.step = result.step,
                             .loss = result.main_loss,
                             .learning_rate = result.learning_rate,
                             .grad_norm = result.gradient.norm,
                             .tokens_per_second = tokens_per_second,
                             .has_perplexity = false});
    if (result.step % config_.logging.every_steps == 0 || result.step == max_steps_) {
      log_->metrics(
          {{"step", result.step},
           {"epoch", static_cast<double>(result.step) / static_cast<double>(steps_per_epoch_)},
           {"loss", result.main_loss},
           {"learning_rate", result.learning_rate},
           {"grad_norm", result.gradient.norm},
           {"tokens_per_second", tokens_per_second}},
          "train");
    }
  }
  if (result.refused()) return refused(result, exponent_before);
  state_.refused_in_a_row = 0;
  monitor_.add(result.step, 0, result.main_loss);
}

void Finetuner::refused(const StepResult& result, int exponent_before) {
  step_->allow_updates();
  const std::string why =
      !std::isfinite(result.main_loss) ? fmt::format("its loss is {}", result.main_loss)
      : result.gradient.nonfinite != 0
          ? fmt::format("{} elements of its gradient are not finite", result.gradient.nonfinite)
          : fmt::format("its loss is {:.4f}, and above {:.4f} is a spike", result.main_loss,
                        result.max_loss);
  if (log_) {
    log_->event(RunEvent::skip, result.step, "refused, and nothing was changed: " + why);
  }
  const bool stops = config_.divergence.policy == OnDivergence::stop;
  if (!stops && state_.refused_in_a_row + 1 < config_.divergence.max_in_a_row) {
    ++state_.skipped;
    ++state_.refused_in_a_row;
    return;
  }
  // As it was before the step, so that a resumed run tries it again.
  --state_.step;
  if (step_->fixed_point()) step_->fixed_point()->set_exponent(exponent_before);
  save();
  checkpoints_.finish(communicator_);
  throw_runtime_error(
      "step {} was refused: {}; {}; the state before it is checkpoint {}", result.step, why,
      stops ? std::string("divergence.policy is stop")
            : fmt::format("{} steps in a row were", config_.divergence.max_in_a_row),
      checkpoint_name(state_.step));
}

Finetuner::Verdict Finetuner::evaluate_and_report() {
  LossSums sums;
  const TaskOutputs outputs = this->outputs(validation_, &sums);
  const std::vector<Metric> metrics = validation_.dataset->metrics(outputs);
  const double value = value_of(metrics, metric_);
  // Of two equal ones the first is kept; a metric that is not a number is never better.
  const bool best =
      std::isfinite(value) && -value < state_.best_loss - config_.evaluation.min_improvement;
  if (best) {
    state_.best_loss = -value;
    state_.best_step = state_.step;
  }
  state_.evaluations_since_best = best ? 0 : state_.evaluations_since_best + 1;
  const bool stop = state_.out_of_patience(config_.evaluation.patience);
  if (!log_) return {best, stop};

  const double loss = sums.loss / validation_.batches->total_weight();
  ordered_json record{{"step", state_.step}, {"val_loss", loss}};
  std::string text = fmt::format("validation loss {:.4f}", loss);
  const std::vector<std::string> main = task_->metric_names();
  for (const Metric& metric : metrics) {
    record["val_" + metric.name] = metric.value;
    if (std::find(main.begin(), main.end(), metric.name) != main.end()) {
      text += fmt::format(", {} {:.4f}", metric.name, metric.value);
    }
  }
  log_->metrics(record, "validation");
  if (best) {
    log_->event(RunEvent::best, state_.step, text + " (best)");
  } else {
    log_->message(fmt::format("step {}: {}", state_.step, text));
  }
  log_->gradient_norms(state_.step, layer_gradient_norms(model_->parameters()));
  if (stop) {
    log_->event(RunEvent::stop, state_.step,
                fmt::format("stopping: no better {} than step {}'s in {} evaluations", metric_,
                            state_.best_step, config_.evaluation.patience));
  }
  return {best, stop};
}

TaskOutputs Finetuner::outputs(const Split& split, LossSums* sums) {
  const TaskOutputs own =
      task_outputs(*model_, *backend_.device, step_->memory(), split.batches->in_order(), sums,
                   config_.train.reproducible ? kLossUnit : 0.0);
  if (communicator_.size() == 1) return own;
  std::string bytes;
  const auto append = [&](const void* data, std::size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  if (sums != nullptr) append(sums, sizeof *sums);
  for (const std::vector<float>& one : own) {
    const std::uint64_t size = one.size();
    append(&size, sizeof size);
    append(one.data(), one.size() * sizeof(float));
  }
  TaskOutputs all;
  if (sums != nullptr) *sums = {};
  for (const std::string& of_rank : communicator_.all_gather(bytes)) {
    std::size_t at = 0;
    const auto take = [&](void* data, std::size_t size) {
      BERT_CHECK(at + size <= of_rank.size());
      std::memcpy(data, of_rank.data() + at, size);
      at += size;
    };
    if (sums != nullptr) {
      LossSums theirs;
      take(&theirs, sizeof theirs);
      sums->loss += theirs.loss;
      sums->count += theirs.count;
      sums->correct += theirs.correct;
    }
    while (at < of_rank.size()) {
      std::uint64_t size = 0;
      take(&size, sizeof size);
      take(all.emplace_back(size).data(), size * sizeof(float));
    }
  }
  return all;
}

std::vector<Metric> Finetuner::judge(const Split& split, const std::string& predictions) {
  const TaskOutputs outputs = this->outputs(split, nullptr);
  if (communicator_.is_root()) {
    std::ostringstream text;
    split.dataset->write_predictions(outputs, text);
    write_file_atomic(run_dir_ / predictions, text.str());
  }
  return split.dataset->metrics(outputs);
}

void Finetuner::note_metrics(const char* split, const std::vector<Metric>& metrics) {
  if (!log_ || metrics.empty()) return;
  std::string line = fmt::format("{} by the best checkpoint, of step {}:", split, state_.best_step);
  const std::vector<std::string> main = task_->metric_names();
  for (const Metric& metric : metrics) {
    if (std::find(main.begin(), main.end(), metric.name) == main.end()) continue;
    line += fmt::format(" {} {:.4f}", metric.name, metric.value);
  }
  log_->note(line);
}

void Finetuner::save() { checkpoints_.save(state_, monitor_, *step_, backend_); }

void Finetuner::say(const std::string& line) {
  if (log_) log_->message(line);
}

}  // namespace bert
