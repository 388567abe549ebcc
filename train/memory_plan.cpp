#include "train/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/error.h"
#include "train/logging/number_text.h"
#include "train/step/device_batch.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;
constexpr std::int64_t kChoices = 16;

// The allowance. On a CPU, buffers of products and of each thread, batches made ahead, libraries;
// on a GPU, 64 MB of products, kernels and recorded graphs, staging, NCCL. What grows with a
// micro-batch or the model there: the largest result once more, while the way of its product is
// chosen, and in FP8 the copies of the operands of the feed-forward's backward.
std::size_t workspace_bytes(const Backend& backend, const BertConfig& model,
                            const Capacity& capacity) {
  if (backend.device->is_cpu()) {
    return (64 + 32 * static_cast<std::size_t>(backend.threads)) * kMegabyte;
  }
  const auto result = static_cast<std::size_t>(
      std::max(capacity.masked * model.vocab_size, capacity.tokens * model.intermediate_size));
  const auto gradient = static_cast<std::size_t>(model.vocab_size * model.hidden_size);
  const std::int64_t copies =
      backend.precision == Precision::fp8
          ? capacity.tokens * 2 * (model.intermediate_size + model.hidden_size)
          : 0;
  return 768 * kMegabyte +
         std::max(result * dtype_size(backend.ops->dtype()), gradient * sizeof(float)) +
         static_cast<std::size_t>(copies);
}

[[noreturn]] void refuse(const MicroBatchRange& range, const StepConfig& step,
                         const Backend& backend, const Communicator& communicator,
                         std::size_t needed, std::size_t available) {
  const Capacity capacity = range.capacity(range.least);
  std::string advice;
  if (!step.recompute) advice += "train.recompute: true, ";
  if (range.given) advice += "a smaller train.micro_batch_tokens or auto, ";
  if (backend.device->is_cpu() && communicator.local_size() > 1) advice += "fewer ranks, ";
  throw_input_error(
      "{}: {} are needed for micro-batches of {} tokens in sequences of up to {}, and {} of {} are "
      "free for a rank; what helps: {}shorter sequences, a smaller model",
      range.where, format_size(needed), capacity.tokens, capacity.max_seqlen,
      format_size(available), backend.device->name(), advice);
}

}  // namespace

MemoryPlan plan_memory(BertModel& model, const Backend& backend, const Capacity& capacity,
                       const StepConfig& step) {
  Ops& ops = *backend.ops;
  const auto flat = static_cast<std::size_t>(model.parameters().flat_size());
  MemoryPlan plan;
  plan.parameters = flat * dtype_size(ops.statistics_dtype());
  if (ops.dtype() != ops.statistics_dtype()) plan.compute_copies = flat * dtype_size(ops.dtype());
  plan.gradients = plan.parameters;
  if (step.reproducible) plan.fixed_point_sums = flat * sizeof(std::int64_t);
  plan.moments = 2 * plan.parameters;
  plan.activations =
      model.count_activation_bytes(ops, capacity, /*with_gradients=*/true, step.recompute);
  plan.batch = DeviceBatch::count_bytes(ops, capacity, model);
  if (backend.device->is_cpu()) plan.batch *= 2;
  plan.workspace = workspace_bytes(backend, model.config(), capacity);
  plan.snapshot = plan.parameters + plan.moments;
  return plan;
}

Capacity phase_capacity(const Config& config, const Phase& phase, int ranks,
                        std::int64_t auto_tokens) {
  const std::int64_t fixed = config.train.micro_batch_sequences();
  check_shares(config, phase.batch_key, phase.batch_size, fixed, ranks);
  Capacity capacity;
  capacity.max_seqlen = phase.sequence_length;
  capacity.sequences = fixed > 0 ? fixed : (phase.batch_size + ranks - 1) / ranks;
  const std::int64_t step_tokens = capacity.sequences * phase.sequence_length;
  const std::int64_t wanted =
      fixed > 0 ? step_tokens
                : phase.micro_batch_tokens.value_or(std::max(auto_tokens, phase.sequence_length));
  capacity.tokens = std::min(wanted, step_tokens);
  // Each sequence rounds its number of predictions up by one at most.
  capacity.masked = std::min(
      capacity.tokens, static_cast<std::int64_t>(std::ceil(config.objective.mask_fraction *
                                                           static_cast<double>(capacity.tokens))) +
                           capacity.sequences);
  return capacity;
}

Capacity run_capacity(const Config& config, int ranks, std::int64_t auto_tokens) {
  Capacity capacity;
  for (const Phase& phase : config.phases()) {
    const Capacity needed = phase_capacity(config, phase, ranks, auto_tokens);
    capacity.tokens = std::max(capacity.tokens, needed.tokens);
    capacity.sequences = std::max(capacity.sequences, needed.sequences);
    capacity.masked = std::max(capacity.masked, needed.masked);
    capacity.max_seqlen = std::max(capacity.max_seqlen, needed.max_seqlen);
  }
  return capacity;
}

std::size_t memory_for_a_rank(const Backend& backend, const Communicator& communicator,
                              std::size_t snapshot) {
  const std::size_t available = backend.device->memory_available();
  if (!backend.device->is_cpu()) return available;
  const std::size_t shared = available > snapshot ? available - snapshot : 0;
  return shared / static_cast<std::size_t>(communicator.local_size());
}

std::int64_t least_of_ranks(Communicator& communicator, std::int64_t value) {
  std::vector<std::int64_t> negative{-value};
  communicator.all_reduce_max(negative);
  return -negative[0];
}

std::int64_t choose_tokens(const MicroBatchRange& range, const StepConfig& step, BertModel& model,
                           const Backend& backend, Communicator& communicator) {
  const auto plan = [&](std::int64_t tokens) {
    return plan_memory(model, backend, range.capacity(tokens), step);
  };
  const MemoryPlan least = plan(range.least);
  const std::size_t available = memory_for_a_rank(backend, communicator, least.snapshot);
  // With none to spare, and no allowance: less is surely too little.
  if (least.total() - least.workspace > available) {
    refuse(range, step, backend, communicator, least.total(), available);
  }
  const std::int64_t piece = std::max<std::int64_t>(1, range.most / kChoices);
  std::int64_t chosen = range.most;
  while (chosen > range.least && plan(chosen).total() > available - available / 10) {
    chosen = std::max(range.least, chosen - piece);
  }
  if (range.earlier && plan(*range.earlier).total() <= available) chosen = *range.earlier;
  return least_of_ranks(communicator, chosen);
}

std::int64_t choose_auto_tokens(const Config& config, BertModel& model, const Backend& backend,
                                Communicator& communicator, std::optional<std::int64_t> earlier) {
  const std::int64_t most = good_batch_tokens(*backend.device);
  const std::int64_t least = most / kChoices;
  const int ranks = communicator.size();
  const std::vector<Phase> phases = config.phases();
  const Phase& largest =
      *std::max_element(phases.begin(), phases.end(), [&](const Phase& one, const Phase& other) {
        return phase_capacity(config, one, ranks, least).tokens <
               phase_capacity(config, other, ranks, least).tokens;
      });
  const auto capacity = [&](std::int64_t tokens) { return run_capacity(config, ranks, tokens); };
  return choose_tokens({.capacity = capacity,
                        .least = least,
                        .most = most,
                        .earlier = earlier,
                        .where = config.where(largest.room_key),
                        .given = largest.micro_batch_tokens.has_value()},
                       config.train, model, backend, communicator);
}

}  // namespace bert
