// Softmax cross-entropy over rows that fit in cache: one read from memory and, with a gradient, one
// write (8 bytes a logit); the three passes over a row are in cache.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/softmax_row.h"
#include "kernels/loss_adder.h"
#include "kernels/op_checks.h"

namespace bert::cpu {

void CpuOps::cross_entropy(const CrossEntropy& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.logits.rows()), n = op.classes;
  const std::int64_t stride = op.logits.dim(1);
  const auto* targets = op.targets.data<std::int32_t>();
  const float* weights = op.weights ? op.weights.data<float>() : nullptr;
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
      const float weight = weights != nullptr ? weights[r] : 1.0f;
      const Largest top = largest(row, n);
      const float target_logit = row[target];
      const float total =
          gradient ? sum_exp<true>(row, n, top.value) : sum_exp<false>(row, n, top.value);
      losses[r] = weight * (std::log(total) + (top.value - target_logit));
      correct[r] = top.index == target ? 1.0f : 0.0f;
      if (gradient) {
        const float scale = weight * static_cast<float>(*op.loss_scale);
        const F32 factor = splat(scale / total);
        for_lanes(0, n, [&](std::int64_t c, auto lanes) {
          store(row + c, load(row + c, lanes) * factor, lanes);
        });
        row[target] -= scale;
        std::fill(row + n, row + stride, 0.0f);
      }
    }
  });
  LossAdder sums(*op.sums, op.loss_unit);
  for (std::int64_t r = 0; r < rows; ++r) {
    if (targets[r] == kIgnoreIndex) continue;
    sums.add(static_cast<double>(losses[r]), correct[r] != 0.0f);
  }
  if (op.row_loss) {
    std::memcpy(op.row_loss.raw(), losses, static_cast<std::size_t>(rows) * sizeof(float));
    zero_tail(op.row_loss, rows);
  }
  if (gradient) zero_tail(op.logits, rows);
}

}  // namespace bert::cpu
