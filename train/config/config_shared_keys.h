// The keys of the sections that several programs have (train/config/config_sections.h).
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "train/config/config_sections.h"
#include "train/config/config_table.h"

namespace bert {

inline constexpr std::int64_t kNoLimit = IntegerRange::kNoLimit;
inline constexpr std::int64_t kMostLength = 1 << 20;
inline constexpr std::int64_t kLeastLength = 8;  // of a sample, as PretrainingDataset has it
inline constexpr IntegerRange kLengths{kLeastLength, kMostLength};
inline constexpr IntegerRange kBatches{1, std::numeric_limits<std::int32_t>::max()};
inline constexpr IntegerRange kMicroBatches{kLeastLength, std::numeric_limits<std::int32_t>::max()};
inline constexpr IntegerRange kCounts{0, kNoLimit};
inline constexpr NumberRange kProbability{0.0, 1.0, true, false};
inline constexpr NumberRange kDropout{0.0, 0.9999};  // more rounds to all (kernels/dropout.h)

template <typename C>
void add_run_dir_key(ConfigTable<C>& table) {
  table.add(
      "run_dir", [](auto& c) -> auto& { return c.run_dir; }, text("a folder"),
      "Where everything about this run goes: metrics, checkpoints, TensorBoard files.");
}

template <typename C>
void add_cased_key(ConfigTable<C>& table) {
  table.add(
      "tokenizer.cased", [](auto& c) -> auto& { return c.tokenizer.cased; }, boolean(),
      "Only for a bare vocab.txt: whether upper and lower case differ. A folder says it "
      "itself.");
}

template <typename C>
void add_batch_size_key(ConfigTable<C>& table) {
  table.add(
      "train.batch_size", [](auto& c) -> auto& { return c.train.batch_size; }, integer(kBatches),
      "Sequences per optimizer step, over all ranks.");
}

template <typename C>
void add_micro_batch_keys(ConfigTable<C>& table) {
  table.add(
      "train.micro_batch_tokens", [](auto& c) -> auto& { return c.train.micro_batch_tokens; },
      or_auto(integer(kMicroBatches)),
      "Tokens computed at once; less needs less memory and changes no result but its rounding. "
      "auto: up to 4096 on a CPU and 32768 on a GPU, or as many as memory allows; a run keeps "
      "what it chose when it is resumed.");
  table.add(
      "train.recompute", [](auto& c) -> auto& { return c.train.recompute; }, boolean(),
      "Layers share the memory of what backward needs of them, and backward repeats their "
      "forward: a third more work, an eighth of the memory, the same bits.");
}

template <typename C>
void add_reproducible_keys(ConfigTable<C>& table) {
  table.add(
      "train.reproducible", [](auto& c) -> auto& { return c.train.reproducible; }, boolean(),
      "The same bits whatever the number of ranks, threads and micro_batch_tokens; slower.");
  table.add(
      "train.reproducible_sequences",
      [](auto& c) -> auto& { return c.train.reproducible_sequences; }, integer(kBatches),
      "With train.reproducible: sequences computed at once, which decide how sums are rounded. "
      "More are faster and need more memory; batch_size should hold several for each rank.");
}

template <typename C>
ConfigKeyOf<C> betas_key() {
  const std::string expected = "a list of two numbers, each 0 <= x < 1";
  const auto set = [=](C& c, const ConfigValue& value) {
    const auto list = value.elements();
    if (list.size() != 2) value.refuse(expected);
    c.optimizer.beta1 = list[0].number(kProbability);
    c.optimizer.beta2 = list[1].number(kProbability);
  };
  const auto get = [](const C& c) {
    return fmt::format("[{}, {}]", to_yaml(c.optimizer.beta1), to_yaml(c.optimizer.beta2));
  };
  return {"optimizer.betas",
          "How fast AdamW forgets: the decay of its means of gradients and of squared gradients.",
          expected,
          set,
          get,
          {}};
}

template <typename C>
void add_optimizer_keys(ConfigTable<C>& table) {
  table.add(
      "optimizer.learning_rate", [](auto& c) -> auto& { return c.optimizer.learning_rate; },
      number({0.0, 10.0, false, true}), "The highest learning rate, where warm-up ends.");
  table.add(betas_key<C>());
  table.add(
      "optimizer.epsilon", [](auto& c) -> auto& { return c.optimizer.epsilon; },
      number({1e-15, 1.0}), "Added to the denominator of AdamW.");
  table.add(
      "optimizer.weight_decay", [](auto& c) -> auto& { return c.optimizer.weight_decay; },
      number({0.0, 10.0}), "Pull of weights towards zero; biases and LayerNorms have none.");
  table.add(
      "optimizer.bias_correction", [](auto& c) -> auto& { return c.optimizer.bias_correction; },
      boolean(), "AdamW as published (true) or as in google's BERT (false).");
  table.add(
      "optimizer.max_grad_norm", [](auto& c) -> auto& { return c.optimizer.max_grad_norm; },
      number({0.0}), "Longer gradients are cut to this norm; 0 leaves them alone.");
}

template <typename C>
void add_divergence_keys(ConfigTable<C>& table) {
  table.add(
      "divergence.policy", [](auto& c) -> auto& { return c.divergence.policy; },
      choice<kOnDivergence>(),
      "After a step whose loss or gradient is not finite, or whose loss is a spike; it changes "
      "nothing in any case. skip: go on with the next batch; rollback: back to the last "
      "checkpoint, and on with the batch after this one (not in fine-tuning); stop: save and "
      "fail.");
  table.add(
      "divergence.spike_z_score", [](auto& c) -> auto& { return c.divergence.spike_z_score; },
      number({0.0}),
      "A loss this many standard deviations above the mean of the last few hundred steps is a "
      "spike; 0: none is.");
  table.add(
      "divergence.max_in_a_row", [](auto& c) -> auto& { return c.divergence.max_in_a_row; },
      integer({1, kNoLimit}),
      "After so many such steps in a row, or rollbacks to one checkpoint, the run fails.");
}

// `every_steps`: what that key means here. `best`: how the best checkpoint is known.
template <typename C>
void add_checkpoint_keys(ConfigTable<C>& table, std::string every_steps, const std::string& best) {
  table.add(
      "checkpoint.every_steps", [](auto& c) -> auto& { return c.checkpoint.every_steps; },
      integer(kCounts), std::move(every_steps));
  table.add(
      "checkpoint.keep", [](auto& c) -> auto& { return c.checkpoint.keep; }, integer({1, kNoLimit}),
      "How many of the newest checkpoints are kept; the one with the best " + best +
          " is kept as well.");
}

template <typename C>
void add_logging_keys(ConfigTable<C>& table) {
  table.add(
      "logging.every_steps", [](auto& c) -> auto& { return c.logging.every_steps; },
      integer({1, kNoLimit}), "Steps between lines of metrics.jsonl.");
  table.add(
      "logging.tensorboard", [](auto& c) -> auto& { return c.logging.tensorboard; }, boolean(),
      "Whether to write TensorBoard files as well.");
}

template <typename C>
void add_runtime_keys(ConfigTable<C>& table) {
  table.add(
      "runtime.device", [](auto& c) -> auto& { return c.runtime.device; }, choice<kDeviceChoices>(),
      "What to compute on; auto: a GPU where there is one. Under mpirun each rank takes one.");
  table.add(
      "runtime.precision", [](auto& c) -> auto& { return c.runtime.precision; },
      choice<kPrecisions>(),
      "Of the numbers; auto: bf16 on a GPU, fp32 on a CPU. tf32 and fp8 need a GPU; fp8 "
      "is bf16 with the products of the encoder in 8 bits; fp64 is the slow reference on a "
      "CPU.");
  table.add(
      "runtime.threads", [](auto& c) -> auto& { return c.runtime.threads; },
      or_auto(integer({1, 4096})),
      "Threads per process; auto: its cores, shared with the ranks that may use them too. Exact "
      "resume needs the same number, unless train.reproducible is on.");
  table.add(
      "runtime.allreduce_dtype", [](auto& c) -> auto& { return c.runtime.allreduce_dtype; },
      choice<Precision>({Precision::fp32, Precision::bf16}, precision_name),
      "What gradients travel as between GPUs; bf16 halves the bytes and rounds the sums. Ranks "
      "on CPUs use their own precision.");
  table.add(
      "runtime.cuda_graph", [](auto& c) -> auto& { return c.runtime.cuda_graph; }, boolean(),
      "Whether a GPU records its work of a step once and repeats it, which spares the "
      "launches.");
  table.add(
      "runtime.profile", [](auto& c) -> auto& { return c.runtime.profile; }, boolean(),
      "Whether to time each op of the steps and print a table at the end: time, speed, and the "
      "part of what this machine reaches, which is measured at the start. A GPU then waits for "
      "each op and records nothing, which makes steps slower; results stay the same.");
}

}  // namespace bert
