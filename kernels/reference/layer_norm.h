// LayerNorm (Ba et al. 2016); equations of docs/derivations/layer_norm.md.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

// One row, equations (1) to (4): y = gamma * (x - mean) * rstd + beta. y may be x.
template <typename Scalar>
void layer_norm_row(const Scalar* x, const Scalar* gamma, const Scalar* beta, double epsilon,
                    std::int64_t channels, Scalar* y, Scalar* mean, Scalar* rstd) {
  Scalar sum = 0;
  for (std::int64_t c = 0; c < channels; ++c) sum += x[c];
  const Scalar mu = sum / static_cast<Scalar>(channels);
  Scalar squares = 0;
  for (std::int64_t c = 0; c < channels; ++c) squares += (x[c] - mu) * (x[c] - mu);
  const Scalar variance = squares / static_cast<Scalar>(channels);
  const Scalar r = Scalar(1) / std::sqrt(variance + static_cast<Scalar>(epsilon));
  for (std::int64_t c = 0; c < channels; ++c) y[c] = gamma[c] * (x[c] - mu) * r + beta[c];
  *mean = mu;
  *rstd = r;
}

// One row of the backward pass, equations (6), (7) and (10). dx may be dy.
template <typename Scalar>
void layer_norm_backward_row(const Scalar* dy, const Scalar* x, const Scalar* gamma, Scalar mean,
                             Scalar rstd, std::int64_t channels, Scalar* dx, bool accumulate_dx,
                             Scalar* dgamma, Scalar* dbeta) {
  Scalar sum_dxhat = 0, sum_dxhat_xhat = 0;
  for (std::int64_t c = 0; c < channels; ++c) {
    const Scalar xhat = (x[c] - mean) * rstd;
    const Scalar dxhat = dy[c] * gamma[c];
    sum_dxhat += dxhat;
    sum_dxhat_xhat += dxhat * xhat;
    dgamma[c] += dy[c] * xhat;
    dbeta[c] += dy[c];
  }
  const Scalar mean_dxhat = sum_dxhat / static_cast<Scalar>(channels);
  const Scalar mean_dxhat_xhat = sum_dxhat_xhat / static_cast<Scalar>(channels);
  for (std::int64_t c = 0; c < channels; ++c) {
    const Scalar xhat = (x[c] - mean) * rstd;
    const Scalar d = rstd * (dy[c] * gamma[c] - mean_dxhat - xhat * mean_dxhat_xhat);
    dx[c] = accumulate_dx ? dx[c] + d : d;
  }
}

template <typename Scalar>
void layer_norm_forward(const LayerNormForward& op) {
  const std::int64_t rows = row_count(op.rows, op.x.rows()), channels = op.x.dim(1);
  for (std::int64_t r = 0; r < rows; ++r) {
    layer_norm_row(op.x.data<Scalar>() + r * channels, op.gamma.data<Scalar>(),
                   op.beta.data<Scalar>(), op.epsilon, channels, op.y.data<Scalar>() + r * channels,
                   op.mean.data<Scalar>() + r, op.rstd.data<Scalar>() + r);
  }
  zero_tail<Scalar>(op.y, rows);
}

template <typename Scalar>
void layer_norm_backward(const LayerNormBackward& op) {
  const std::int64_t rows = row_count(op.rows, op.x.rows()), channels = op.x.dim(1);
  for (std::int64_t r = 0; r < rows; ++r) {
    layer_norm_backward_row(op.dy.data<Scalar>() + r * channels, op.x.data<Scalar>() + r * channels,
                            op.gamma.data<Scalar>(), op.mean.data<Scalar>()[r],
                            op.rstd.data<Scalar>()[r], channels,
                            op.dx.data<Scalar>() + r * channels, op.accumulate_dx,
                            op.dgamma.data<Scalar>(), op.dbeta.data<Scalar>());
  }
  if (!op.accumulate_dx) zero_tail<Scalar>(op.dx, rows);
}

}  // namespace bert::reference
