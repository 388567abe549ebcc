// Softmax cross-entropy over rows that fit in cache: one read from memory and, with a gradient, one
// write (in f32 8 bytes a logit); the three passes over a row are in cache.
#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/softmax_row.h"
#include "kernels/loss_adder.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::cross_entropy(const CrossEntropy& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.logits.rows()), n = op.classes;
  const std::int64_t stride = op.logits.dim(1);
  const auto* targets = op.targets.data<std::int32_t>();
  const float* weights = op.weights ? op.weights.data<float>() : nullptr;
  const bool gradient = op.loss_scale != nullptr;
  // Per row: its loss, and whether it was right; summed afterwards in row order.
  float* losses = scratch_.reserve_as<float>(2 * op.logits.rows());
  float* correct = losses + op.logits.rows();
  // bf16 logits are f32 aside, so that the exponentials between the passes are not rounded.
  constexpr bool kAside = !std::is_same_v<Real, float>;
  float* const aside = kAside ? per_part(n) : nullptr;
  on_parts(team_, [&](int part) {
    const Range range = share(rows, part, team_.parts);
    for (std::int64_t r = range.begin; r < range.end; ++r) {
      Real* const logits = op.logits.data<Real>() + r * stride;
      const std::int32_t target = targets[r];
      losses[r] = 0.0f;
      correct[r] = 0.0f;
      if (target == kIgnoreIndex) {
        if (gradient) std::fill(logits, logits + stride, Real(0.0f));
        continue;
      }
      float* row;
      if constexpr (kAside) {
        row = aside + round_up(n, 16) * part;
        for_lanes(0, n, [&](std::int64_t c, auto lanes) {
          store(row + c, load(logits + c, lanes), lanes);
        });
      } else {
        row = logits;
      }
      const float weight = weights != nullptr ? weights[r] : 1.0f;
      std::optional<float> scale;
      if (gradient) scale = weight * static_cast<float>(*op.loss_scale);
      const RowLoss result = row_cross_entropy(row, n, target, scale);
      losses[r] = weight * result.loss;
      correct[r] = result.correct ? 1.0f : 0.0f;
      if (!gradient) continue;
      if constexpr (kAside) {
        for_lanes(0, n, [&](std::int64_t c, auto lanes) {
          store(logits + c, load(row + c, lanes), lanes);
        });
      }
      std::fill(logits + n, logits + stride, Real(0.0f));
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

template void CpuOps<float>::cross_entropy(const CrossEntropy&);
template void CpuOps<Bfloat16>::cross_entropy(const CrossEntropy&);

}  // namespace bert::cpu
