// Finetuner: the loop over the steps.
#include "train/finetuner.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "runtime/file.h"
#include "train/batch_dump.h"
#include "train/inference/task_inference.h"
#include "train/logging/layer_gradient_norms.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

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
  // Before the first step products are still chosen: a resumed run that had no step to compute must
  // judge with those that are, as the run before it did.
  if (backend_.stop_choosing_products) backend_.stop_choosing_products();
  result.validation = judge(validation_, "predictions_validation.jsonl");
  if (test_.dataset) result.test = judge(test_, "predictions_test.jsonl");
  // finetune prints them, over all seeds.
  note_metrics("validation", result.validation);
  note_metrics("test", result.test);
  return result;
}

void Finetuner::train() {
  if (finished()) {
    return say(fmt::format("nothing to train: step {} of {} is done", state_.step, max_steps_));
  }
  start();
  if (options_.dump_batches && state_.step == 0) save();
  StepBatches batches = training_.batches->step(static_cast<std::uint64_t>(state_.step));
  for (bool go_on = true; go_on && state_.step < max_steps_;) {
    if (options_.dump_batches) dump_batches(*options_.dump_batches, state_.step, batches);
    TrainingStep::Queued queued = queue(batches, 0);
    const bool at_end = state_.step == max_steps_;
    // Made while a GPU computes.
    if (!at_end) batches = training_.batches->step(static_cast<std::uint64_t>(state_.step));
    settle(std::move(queued));

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
  finish(signal_);
}

void Finetuner::settle(TrainingStep::Queued queued) {
  const StepResult result = step_->wait(std::move(queued));
  const double tokens_per_second = static_cast<double>(result.tokens) / count(result, 0);
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
  if (result.refused()) refused(result);
}

Verdict Finetuner::evaluate_and_report() {
  LossSums sums;
  const std::vector<Metric> metrics = validation_.dataset->metrics(outputs(validation_, sums));
  const Verdict verdict = state_.note_evaluation(
      -value_of(metrics, metric_), config_.evaluation.min_improvement, config_.evaluation.patience);
  if (!log_) return verdict;

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
  tell_evaluation(record, text, verdict, metric_);
  log_->gradient_norms(state_.step, layer_gradient_norms(model_->parameters()));
  return verdict;
}

TaskOutputs Finetuner::outputs(const Split& split, LossSums& sums) {
  Device& device = *backend_.device;
  auto* const loss = static_cast<ModelLoss*>(loss_memory_.data());
  device.fill_zero(loss, sizeof *loss);
  TaskOutputs own = task_outputs(*model_, device, step_->memory(), split.batches->in_order(), loss,
                                 config_.train.reproducible ? kLossUnit : 0.0);
  ModelLoss total;
  device.copy_to_host(&total, loss, sizeof total);
  sums = total.main;
  return gather_outputs(std::move(own), sums, communicator_);
}

std::vector<Metric> Finetuner::judge(const Split& split, const std::string& predictions) {
  LossSums sums;
  const TaskOutputs outputs = this->outputs(split, sums);
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

}  // namespace bert
