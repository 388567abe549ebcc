// The squared error of one number a row: d (y - t)^2 / d y = 2 (y - t).
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/loss_adder.h"
#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

template <typename Scalar>
void squared_error(const SquaredError& op) {
  const std::int64_t rows = row_count(op.rows, op.predictions.rows());
  const std::int64_t stride = op.predictions.dim(1);
  LossAdder sums(*op.sums, op.loss_unit);
  for (std::int64_t r = 0; r < rows; ++r) {
    Scalar* row = op.predictions.data<Scalar>() + r * stride;
    const Scalar error = row[0] - op.targets.data<Scalar>()[r];
    sums.add(static_cast<double>(error * error), false);
    if (op.row_loss) op.row_loss.data<Scalar>()[r] = error * error;
    if (op.loss_scale) {
      row[0] = Scalar(2) * error * static_cast<Scalar>(*op.loss_scale);
      std::fill(row + 1, row + stride, Scalar(0));
    }
  }
  if (op.loss_scale) zero_tail<Scalar>(op.predictions, rows);
  if (op.row_loss) zero_tail<Scalar>(op.row_loss, rows);
}

}  // namespace bert::reference
