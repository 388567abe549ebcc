// Softmax cross-entropy over rows that fit in cache: one read from memory and, with a gradient, one
// write (8 bytes a logit); the three passes over a row are in cache.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/op_checks.h"

namespace bert::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Largest {
  float value;
  std::int32_t index;  // the first of equals
};

Largest largest(const float* row, std::int64_t n) {
  F32 best = splat(kMinusInfinity);
  I32 best_index = lane_numbers();
  I32 index = lane_numbers();
  for_lanes(0, n, [&](std::int64_t c, auto lanes) {
    const F32 v = keep_lanes(load(row + c, lanes), lanes, kMinusInfinity);
    const auto better = v > best;
    best = better ? v : best;
    best_index = better ? index : best_index;
    index += splat(std::int32_t{kLanes});
  });
  Largest result{kMinusInfinity, 0};
  for (int i = 0; i < kLanes; ++i) {
    if (best[i] > result.value || (best[i] == result.value && best_index[i] < result.index)) {
      result = {best[i], best_index[i]};
    }
  }
  return result;
}

// sum of e^(x - shift); x is overwritten with e^(x - shift) when kStore.
template <bool kStore>
float sum_exp(float* row, std::int64_t n, float shift) {
  F32 total{};
  for_lanes(0, n, [&](std::int64_t c, auto lanes) {
    const F32 e = exp_nonpositive(load(row + c, lanes) - splat(shift));
    if constexpr (kStore) store(row + c, e, lanes);
    total += keep_lanes(e, lanes);
  });
  return sum(total);
}

}  // namespace

void CpuOps::cross_entropy(const CrossEntropy& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.logits.rows()), n = op.classes;
  const std::int64_t stride = op.logits.dim(1);
  const auto* targets = op.targets.data<std::int32_t>();
  const bool gradient = op.loss_scale != nullptr;
  // Per row: its loss, and whether it was right; summed afterwards in row order.
  float* losses = scratch_.reserve_as<float>(2 * op.logits.rows());
  float* correct = losses + op.logits.rows();
  on_parts(team_, [&](int part) {
    const Range range = share(rows, part, team_.parts);
    for (std::int64_t r = range.begin; r < range.end; ++r) {
      float* row = op.logits.data<float>() + r * stride;
      const std::int32_t target = targets[r];
      losses[r] = 0.0f;
      correct[r] = 0.0f;
      if (target == kIgnoreIndex) {
        if (gradient) std::memset(row, 0, static_cast<std::size_t>(stride) * sizeof(float));
        continue;
      }
      const Largest top = largest(row, n);
      const float target_logit = row[target];
      const float total =
          gradient ? sum_exp<true>(row, n, top.value) : sum_exp<false>(row, n, top.value);
      losses[r] = std::log(total) + (top.value - target_logit);
      correct[r] = top.index == target ? 1.0f : 0.0f;
      if (gradient) {
        const auto scale = static_cast<float>(*op.loss_scale);
        const F32 factor = splat(scale / total);
        for_lanes(0, n, [&](std::int64_t c, auto lanes) {
          store(row + c, load(row + c, lanes) * factor, lanes);
        });
        row[target] -= scale;
        std::fill(row + n, row + stride, 0.0f);
      }
    }
  });
  const double loss_before = op.sums->loss;
  if (op.loss_unit > 0.0) op.sums->loss = 0.0;
  for (std::int64_t r = 0; r < rows; ++r) {
    if (targets[r] == kIgnoreIndex) continue;
    op.sums->loss += static_cast<double>(losses[r]);
    op.sums->count += 1;
    op.sums->correct += correct[r] != 0.0f;
  }
  if (op.loss_unit > 0.0) {
    op.sums->loss = loss_before + std::nearbyint(op.sums->loss / op.loss_unit) * op.loss_unit;
  }
  if (op.row_loss) {
    std::memcpy(op.row_loss.raw(), losses, static_cast<std::size_t>(rows) * sizeof(float));
    zero_tail(op.row_loss, rows);
  }
  if (gradient) zero_tail(op.logits, rows);
}

}  // namespace bert::cpu
