// The squared error of one number a row: 3 operations a row, and there are few rows: one thread.
#include <algorithm>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/loss_adder.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::squared_error(const SquaredError& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.predictions.rows());
  const std::int64_t stride = op.predictions.dim(1);
  const auto* targets = op.targets.data<float>();
  LossAdder sums(*op.sums, op.loss_unit);
  for (std::int64_t r = 0; r < rows; ++r) {
    Real* row = op.predictions.data<Real>() + r * stride;
    const float error = static_cast<float>(row[0]) - targets[r];
    sums.add(static_cast<double>(error * error), false);
    if (op.row_loss) op.row_loss.data<float>()[r] = error * error;
    if (op.loss_scale != nullptr) {
      row[0] = Real(2.0f * error * static_cast<float>(*op.loss_scale));
      std::fill(row + 1, row + stride, Real(0.0f));
    }
  }
  if (op.loss_scale != nullptr) zero_tail(op.predictions, rows);
  zero_tail(op.row_loss, rows);
}

template void CpuOps<float>::squared_error(const SquaredError&);
template void CpuOps<Bfloat16>::squared_error(const SquaredError&);

}  // namespace bert::cpu
