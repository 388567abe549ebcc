// Dropout of rows that belong to tokens.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "kernels/reference/hidden_dropout.h"
#include "kernels/row_count.h"

namespace bert::reference {

template <typename Scalar>
void dropout_rows(const DropoutRows& op) {
  const std::int64_t count = row_count(op.count, op.x.rows()), channels = op.x.dim(1);
  const std::int32_t* rows = op.rows.data<std::int32_t>();
  HiddenDropout<Scalar> dropout(op.dropout, op.tokens, channels);
  for (std::int64_t i = 0; i < count; ++i) {
    const Scalar* factors = dropout.factors(rows[i]);
    Scalar* x = op.x.data<Scalar>() + i * channels;
    for (std::int64_t c = 0; c < channels; ++c) x[c] *= factors[c];
  }
}

}  // namespace bert::reference
