// Rows picked out of a matrix, and added back.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

template <typename Scalar>
void gather_rows(const GatherRows& op) {
  const std::int64_t count = row_count(op.count, op.y.rows()), channels = op.x.dim(1);
  const std::int32_t* rows = op.rows.data<std::int32_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    std::copy_n(op.x.data<Scalar>() + rows[i] * channels, channels,
                op.y.data<Scalar>() + i * channels);
  }
  zero_tail<Scalar>(op.y, count);
}

template <typename Scalar>
void scatter_add_rows(const ScatterAddRows& op) {
  const std::int64_t count = row_count(op.count, op.y.rows()), channels = op.x.dim(1);
  const std::int32_t* rows = op.rows.data<std::int32_t>();
  for (std::int64_t i = 0; i < count; ++i) {
    const Scalar* y = op.y.data<Scalar>() + i * channels;
    Scalar* x = op.x.data<Scalar>() + rows[i] * channels;
    for (std::int64_t c = 0; c < channels; ++c) x[c] += y[c];
  }
}

}  // namespace bert::reference
