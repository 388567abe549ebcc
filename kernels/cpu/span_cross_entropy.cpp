// Softmax cross-entropy down two columns, within each sequence. A column of a sequence is copied
// together first: it fits in cache, and what follows are the passes of cross_entropy. Some 16 bytes
// and 2 exponentials a token.
#include <algorithm>
#include <optional>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/softmax_row.h"
#include "kernels/loss_adder.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::span_cross_entropy(const SpanCrossEntropy& op) {
  check(op, dtype());
  const std::int64_t tokens = row_count(op.tokens.num_tokens, op.logits.rows());
  const std::int64_t sequences =
      row_count(op.tokens.num_sequences, op.tokens.sequence_index.rows());
  const std::int64_t stride = op.logits.dim(1);
  const auto* cu = op.tokens.cu_seqlens.data<std::int32_t>();
  const auto* targets = op.targets.data<std::int32_t>();
  std::optional<float> scale;
  if (op.loss_scale != nullptr) scale = static_cast<float>(*op.loss_scale);
  // Both columns, one after the other; then for each target its loss and whether it was right.
  float* const columns = scratch_.reserve_as<float>(2 * op.logits.rows() + 4 * sequences);
  float* const losses = columns + 2 * op.logits.rows();
  float* const correct = losses + 2 * sequences;
  on_parts(team_, [&](int part) {
    const Range range = share(2 * sequences, part, team_.parts);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const std::int64_t first = cu[i / 2], n = cu[i / 2 + 1] - first;
      Real* const logits = op.logits.data<Real>() + first * stride + i % 2;
      float* const column = columns + i % 2 * op.logits.rows() + first;
      losses[i] = correct[i] = 0.0f;
      if (targets[i] == kIgnoreIndex) {
        std::fill(column, column + n, 0.0f);
      } else {
        for (std::int64_t t = 0; t < n; ++t) column[t] = static_cast<float>(logits[t * stride]);
        const RowLoss result = row_cross_entropy(column, n, targets[i], scale);
        losses[i] = result.loss;
        correct[i] = result.correct ? 1.0f : 0.0f;
      }
      if (!scale) continue;
      for (std::int64_t t = 0; t < n; ++t) logits[t * stride] = Real(column[t]);
    }
  });
  LossAdder sums(*op.sums, op.loss_unit);
  for (std::int64_t i = 0; i < 2 * sequences; ++i) {
    if (targets[i] == kIgnoreIndex) continue;
    sums.add(static_cast<double>(losses[i]), correct[i] != 0.0f);
  }
  if (op.target_loss) {
    std::copy(losses, losses + 2 * sequences, op.target_loss.data<float>());
    zero_tail(op.target_loss, sequences);
  }
  if (!scale) return;
  for (std::int64_t t = 0; t < tokens && stride > 2; ++t) {
    Real* const row = op.logits.data<Real>() + t * stride;
    std::fill(row + 2, row + stride, Real(0.0f));
  }
  zero_tail(op.logits, tokens);
}

template void CpuOps<float>::span_cross_entropy(const SpanCrossEntropy&);
template void CpuOps<Bfloat16>::span_cross_entropy(const SpanCrossEntropy&);

}  // namespace bert::cpu
