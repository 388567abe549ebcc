// Pretrainer: what is told of steps and evaluations.
#include <algorithm>

#include <nlohmann/json.hpp>

#include "train/inference/mask_filling.h"
#include "train/logging/layer_gradient_norms.h"
#include "train/logging/tensorboard_writer.h"
#include "train/pretrainer.h"
#include "train/profile/utilisation.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
using nlohmann::ordered_json;

void Pretrainer::log_step(const InFlight& step, double tokens_per_second) {
  if (!log_) return;
  const StepResult& result = step.queued.result;
  const std::optional<double> mfu = utilisation(step, tokens_per_second);
  log_->progress().update({.step = result.step,
                           .loss = result.main_loss,
                           .learning_rate = result.learning_rate,
                           .grad_norm = result.gradient.norm,
                           .tokens_per_second = tokens_per_second,
                           .mfu = mfu});
  const std::int64_t every = config_.logging.every_steps;
  if (result.step % every != 0 && result.step != config_.train.max_steps) return;
  ordered_json record;
  record["step"] = result.step;
  record["loss"] = result.loss;
  record["mlm_loss"] = result.main_loss;
  if (model_->has_nsp()) record["nsp_loss"] = result.nsp_loss;
  record["learning_rate"] = result.learning_rate;
  record["grad_norm"] = result.gradient.norm;
  record["tokens_per_second"] = tokens_per_second;
  if (mfu) record["mfu"] = *mfu;
  record["masked_tokens"] = result.masked;
  log_->metrics(record, "train");
}

// Of all devices together; nothing where their peak is not known. The sequences are taken to be
// equally long, with which their attention costs least: what is reported is rather too little.
std::optional<double> Pretrainer::utilisation(const InFlight& step,
                                              double tokens_per_second) const {
  const StepResult& result = step.queued.result;
  const std::optional<double> peak = peak_flop_per_second(
      backend_.device->name(), std::string(precision_name(backend_.precision)));
  if (!peak || result.tokens == 0) return std::nullopt;
  const auto tokens = static_cast<double>(result.tokens);
  const double squared_lengths = tokens * tokens / static_cast<double>(step.phase.batch_size);
  const double seconds = tokens / tokens_per_second;
  return necessary_flop(model_->config(), tokens, squared_lengths,
                        static_cast<double>(result.masked)) /
         (seconds * *peak * communicator_.size());
}

Verdict Pretrainer::evaluate_and_report(bool updated) {
  const EvaluationResult result =
      evaluator_->run(datasets_.at(phase_.sequence_length).validation, phase_.batch_size,
                      config_.evaluation.max_batches, communicator_);
  const Verdict verdict = state_.note_evaluation(result.loss(), config_.evaluation.min_improvement,
                                                 config_.evaluation.patience);
  if (!log_) return verdict;

  ordered_json record;
  record["step"] = state_.step;
  record["val_loss"] = result.loss();
  if (result.loss_se) record["val_loss_se"] = *result.loss_se;
  record["val_perplexity"] = result.perplexity();
  record["val_accuracy"] = result.accuracy();
  if (model_->has_nsp()) {
    record["val_nsp_loss"] = result.nsp_loss();
    record["val_nsp_accuracy"] = result.nsp_accuracy();
  }
  std::string text = fmt::format("validation loss {:.4f}", result.loss());
  if (result.loss_se) text += fmt::format(" (standard error {:.4f})", *result.loss_se);
  text += fmt::format(", perplexity {:.2f}, accuracy {:.1f} %", result.perplexity(),
                      100.0 * result.accuracy());
  tell_evaluation(record, text, verdict, "validation loss");
  // Of the step just settled: its gradients are there until the next one begins, or it was refused.
  if (updated) log_->gradient_norms(state_.step, layer_gradient_norms(model_->parameters()));
  report_samples();
  return verdict;
}

// The same samples under the same masks each time, so that they can be followed: in every phase and
// after a resume those of the first phase's sequence length.
void Pretrainer::report_samples() {
  const std::int64_t length = config_.phases().front().sequence_length;
  const DatasetMixture& validation = datasets_.at(length).validation;
  const std::int64_t wanted =
      std::min(config_.evaluation.samples, static_cast<std::int64_t>(validation.num_samples()));
  if (wanted <= 0) return;
  const StepBatches step = make_step(
      validation,
      {.batch_size = wanted, .limits = limits_of(capacity_), .in_order = true, .end_step = 1}, 0);
  std::string markdown = "| text | masked | predicted |\n|---|---|---|\n";
  std::int64_t sample = 0;
  for (const Batch& batch : step.micro_batches) {
    const auto predictions = predict_masked(*model_, *backend_.device, step_->memory(), batch, 1);
    for (std::int64_t b = 0; b < batch.num_sequences(); ++b, ++sample) {
      const std::string predicted = show_predictions(*tokenizer_, batch, predictions, b);
      const std::string original = show_original(*tokenizer_, batch, b);
      const std::string masked = show_masked(*tokenizer_, batch, b);
      markdown += fmt::format("| {} | {} | {} |\n", markdown_cell(original), markdown_cell(masked),
                              markdown_cell(predicted));
      log_->prediction({{"step", state_.step},
                        {"sample", sample},
                        {"text", original},
                        {"masked", masked},
                        {"predicted", predicted}});
    }
  }
  log_->text("validation/predictions", markdown, state_.step);
}

}  // namespace bert
