#include "train/run_plan.h"

#include <algorithm>

#include "runtime/plural.h"
#include "train/logging/number_text.h"

namespace bert {
namespace {

constexpr std::uint64_t kSamplesLookedAt = 256;

// "812", "40.5 thousand", "75.3 billion".
std::string rounded(double number) {
  if (number < 1e4) return fmt::format("{:.0f}", number);
  if (number < 1e6) return fmt::format("{:.1f} thousand", number / 1e3);
  if (number < 1e9) return fmt::format("{:.1f} million", number / 1e6);
  return fmt::format("{:.2f} billion", number / 1e9);
}

// "0.25s" where format_duration has "0s".
std::string short_duration(double seconds) {
  return seconds < 1 ? fmt::format("{:.2g}s", seconds) : format_duration(seconds);
}

std::string describe_phase(const PhasePlan& phase, std::int64_t ranks) {
  return fmt::format(
      "{} of up to {} tokens a step, {:.1f} steps an epoch, micro-batches of up to {} "
      "tokens{}\n"
      "            at most {} tokens a step, about {:.0f} on average\n",
      plural(phase.batch_size, "sequence"), phase.sequence_length, phase.steps_per_epoch(),
      phase.micro_batch_tokens, ranks > 1 ? fmt::format(" on each of {} ranks", ranks) : "",
      phase.step_tokens_at_most(), phase.step_tokens());
}

std::string describe_memory(const RunPlan& plan) {
  const MemoryPlan& memory = plan.memory;
  std::string text = fmt::format("memory      parameters {}", format_size(memory.parameters));
  if (memory.compute_copies > 0) text += ", compute copies " + format_size(memory.compute_copies);
  text += ", gradients " + format_size(memory.gradients);
  if (memory.fixed_point_sums > 0) {
    text += " and their sums " + format_size(memory.fixed_point_sums);
  }
  text += fmt::format(", moments {}, activations {}, batch {}\n", format_size(memory.moments),
                      format_size(memory.activations), format_size(memory.batch));
  text += fmt::format("            with {} for workspace about {} of the {} free for a rank\n",
                      format_size(memory.workspace), format_size(memory.total()),
                      format_size(plan.memory_for_it));
  text +=
      fmt::format("            rank 0 takes {} of the host besides while it writes a checkpoint\n",
                  format_size(memory.snapshot));
  return text;
}

std::string describe_corpora(const RunPlan& plan) {
  if (plan.shares.empty()) return fmt::format("{}", fmt::join(plan.corpora, " + "));
  std::vector<std::string> corpora;
  for (std::size_t i = 0; i < plan.corpora.size(); ++i) {
    corpora.push_back(
        fmt::format("{} ({:.3g} % of samples)", plan.corpora[i], 100 * plan.shares[i]));
  }
  return fmt::format("{}", fmt::join(corpora, " + "));
}

}  // namespace

double RunPlan::epochs() const {
  double sum = 0.0;
  for (const PhasePlan& phase : phases) {
    sum += static_cast<double>(phase.steps()) / phase.steps_per_epoch();
  }
  return sum;
}

double RunPlan::tokens() const {
  double sum = 0.0;
  for (const PhasePlan& phase : phases) {
    sum += static_cast<double>(phase.steps()) * phase.step_tokens();
  }
  return sum;
}

double mean_sample_tokens(const DatasetMixture& training) {
  const std::uint64_t count = std::min(kSamplesLookedAt, training.num_samples());
  double sum = 0.0;
  for (std::uint64_t i = 0; i < count; ++i) {
    sum += static_cast<double>(training.plan(training.shuffled(i)).length);
  }
  return sum / static_cast<double>(count);
}

std::int64_t most_checkpoints(const Config& config) {
  const std::int64_t every = config.checkpoint.every_steps;
  const std::int64_t made = every == 0 ? 1 : (config.train.max_steps + every - 1) / every;
  const std::int64_t checks = config.evaluation.every_steps;
  // An evaluation that is the best makes one too; that after the last step is made anyway.
  const std::int64_t best = checks == 0 ? 0 : (config.train.max_steps - 1) / checks;
  // The ones that are kept, the best, and the one that is being written.
  return std::min(made + best, config.checkpoint.keep + 2);
}

std::size_t checkpoint_bytes(std::int64_t parameters, std::size_t number) {
  return 3 * static_cast<std::size_t>(parameters) * number;
}

std::string describe(const RunPlan& plan) {
  const BertConfig& model = plan.model;
  std::string text;
  text += fmt::format("model       {} of {}, {}, vocabulary {}, {}-LN, {} parameters\n",
                      plural(model.num_hidden_layers, "layer"), model.hidden_size,
                      plural(model.num_attention_heads, "head"), model.vocab_size,
                      layer_norm_name(model.layer_norm), plan.parameters);
  text += fmt::format("corpus      {}: {} + {} documents, {} + {} tokens (training + validation)\n",
                      describe_corpora(plan), plan.training.documents, plan.validation.documents,
                      plan.training.tokens, plan.validation.tokens);
  for (const PhasePlan& phase : plan.phases) {
    text += "batches     ";
    if (plan.phases.size() > 1) text += fmt::format("from step {} on: ", phase.first_step);
    text += describe_phase(phase, plan.ranks);
  }
  text += describe_memory(plan);
  if (plan.micro_batch_sequences > 0) {
    text += fmt::format(
        "bits        the same for any ranks and threads (train.reproducible), in micro-batches of "
        "{}\n",
        plural(plan.micro_batch_sequences, "sequence"));
  }
  text += fmt::format("computing   {}; ranks: {}{}\n", plan.computing, plan.ranks,
                      plan.ranks > 1 ? " over " + plan.communication : "");
  text += fmt::format("checkpoints {} each, ", format_size(plan.checkpoint_bytes));
  text +=
      plan.checkpoint_every > 0 ? every(plan.checkpoint_every, "step") + ", " : "at the end only, ";
  text += fmt::format("the newest{} and the best kept\n",
                      plan.checkpoints_kept > 1 ? fmt::format(" {}", plan.checkpoints_kept) : "");
  text += fmt::format("run         {} into {}: {} tokens, {:.2f} epochs",
                      plural(plan.max_steps, "step"), plan.run_dir, rounded(plan.tokens()),
                      plan.epochs());
  return text + plan.beginning;
}

nlohmann::ordered_json to_json(const RunPlan& plan) {
  nlohmann::ordered_json json;
  json["parameters"] = plan.parameters;
  json["corpora"] = plan.corpora;
  if (!plan.shares.empty()) json["corpus_shares"] = plan.shares;
  json["training_tokens"] = plan.training.tokens;
  json["validation_tokens"] = plan.validation.tokens;
  for (const PhasePlan& phase : plan.phases) {
    json["phases"].push_back({{"first_step", phase.first_step},
                              {"end_step", phase.end_step},
                              {"sequence_length", phase.sequence_length},
                              {"batch_size", phase.batch_size},
                              {"micro_batch_tokens", phase.micro_batch_tokens},
                              {"step_tokens_at_most", phase.step_tokens_at_most()},
                              {"step_tokens", phase.step_tokens()},
                              {"steps_per_epoch", phase.steps_per_epoch()}});
  }
  json["ranks"] = plan.ranks;
  json["communication"] = plan.communication;
  json["computing"] = plan.computing;
  json["memory"] = {{"parameters", plan.memory.parameters},
                    {"compute_copies", plan.memory.compute_copies},
                    {"gradients", plan.memory.gradients},
                    {"fixed_point_sums", plan.memory.fixed_point_sums},
                    {"moments", plan.memory.moments},
                    {"activations", plan.memory.activations},
                    {"batch", plan.memory.batch},
                    {"workspace", plan.memory.workspace},
                    {"total", plan.memory.total()},
                    {"free_for_a_rank", plan.memory_for_it},
                    {"checkpoint_snapshot_on_host", plan.memory.snapshot}};
  json["checkpoint"] = {{"bytes", plan.checkpoint_bytes},
                        {"every_steps", plan.checkpoint_every},
                        {"keep", plan.checkpoints_kept}};
  json["max_steps"] = plan.max_steps;
  json["first_step"] = plan.first_step;
  json["tokens"] = plan.tokens();
  json["epochs"] = plan.epochs();
  json["run_dir"] = plan.run_dir;
  return json;
}

std::optional<double> TimeEstimate::add(double seconds) {
  ++steps_;
  if (steps_ > kSkipped) sum_ += seconds;
  if (steps_ != kSkipped + kTimed) return std::nullopt;
  return sum_ / kTimed;
}

std::string describe_estimate(const RunPlan& plan, std::int64_t step, double seconds) {
  double step_tokens = 0.0, rest_tokens = 0.0;
  for (const PhasePlan& phase : plan.phases) {
    if (step > phase.first_step && step <= phase.end_step) step_tokens = phase.step_tokens();
    const std::int64_t left = phase.end_step - std::max(step, phase.first_step);
    if (left > 0) rest_tokens += static_cast<double>(left) * phase.step_tokens();
  }
  std::string text = fmt::format("estimated: {:.2g} s a step, {} for the rest without evaluations",
                                 seconds, format_duration(seconds * rest_tokens / step_tokens));
  if (plan.checkpoint_every > 0) {
    text += fmt::format(", a checkpoint every {}",
                        short_duration(seconds * static_cast<double>(plan.checkpoint_every)));
  }
  return text;
}

std::string describe_end(std::int64_t steps, std::int64_t tokens, double seconds, bool finished) {
  return fmt::format(
      "{}: {} in {}, {:.2g} s a step, {} tokens/s, evaluations and checkpoints "
      "included",
      finished ? "finished" : "stopped", plural(steps, "step"), short_duration(seconds),
      seconds / static_cast<double>(std::max<std::int64_t>(1, steps)),
      format_rate(static_cast<double>(tokens) / seconds));
}

}  // namespace bert
