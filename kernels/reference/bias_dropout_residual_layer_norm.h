// The end of a BERT branch: z = dropout(x + bias) + residual, y = LayerNorm(z).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/hidden_dropout.h"
#include "kernels/reference/layer_norm.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

template <typename Scalar>
void bias_dropout_residual_layer_norm_forward(const BiasDropoutResidualLayerNormForward& op) {
  const std::int64_t channels = op.x.dim(1);
  const std::int64_t count = row_count(op.tokens.num_tokens, op.x.rows());
  const Scalar* bias = op.bias.data<Scalar>();
  HiddenDropout<Scalar> dropout(op.dropout, op.tokens, channels);
  for (std::int64_t t = 0; t < count; ++t) {
    const Scalar* keep = dropout.factors(t);
    const Scalar* x = op.x.data<Scalar>() + t * channels;
    const Scalar* residual = op.residual.data<Scalar>() + t * channels;
    Scalar* z = op.z.data<Scalar>() + t * channels;
    for (std::int64_t c = 0; c < channels; ++c) z[c] = (x[c] + bias[c]) * keep[c] + residual[c];
    layer_norm_row(z, op.gamma.data<Scalar>(), op.beta.data<Scalar>(), op.epsilon, channels,
                   op.y.data<Scalar>() + t * channels, op.mean.data<Scalar>() + t,
                   op.rstd.data<Scalar>() + t);
  }
  zero_tail<Scalar>(op.z, count);
  zero_tail<Scalar>(op.y, count);
}

template <typename Scalar>
void bias_dropout_residual_layer_norm_backward(const BiasDropoutResidualLayerNormBackward& op) {
  const std::int64_t channels = op.dy.dim(1);
  const std::int64_t count = row_count(op.tokens.num_tokens, op.dy.rows());
  Scalar* dbias = op.dbias.data<Scalar>();
  HiddenDropout<Scalar> dropout(op.dropout, op.tokens, channels);
  std::vector<Scalar> dz_row(static_cast<std::size_t>(channels));
  for (std::int64_t t = 0; t < count; ++t) {
    // The gradient of z: through LayerNorm, and along the residual stream where there is one.
    layer_norm_backward_row(op.dy.data<Scalar>() + t * channels, op.z.data<Scalar>() + t * channels,
                            op.gamma.data<Scalar>(), op.mean.data<Scalar>()[t],
                            op.rstd.data<Scalar>()[t], channels, dz_row.data(), false,
                            op.dgamma.data<Scalar>(), op.dbeta.data<Scalar>());
    if (op.dz) {
      const Scalar* dz = op.dz.data<Scalar>() + t * channels;
      for (std::int64_t c = 0; c < channels; ++c) dz_row[static_cast<std::size_t>(c)] += dz[c];
    }
    const Scalar* keep = dropout.factors(t);
    Scalar* dresidual = op.dresidual.data<Scalar>() + t * channels;
    Scalar* dx = op.dx.data<Scalar>() + t * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      const Scalar d = dz_row[static_cast<std::size_t>(c)];
      dresidual[c] = d;
      dx[c] = d * keep[c];
      dbias[c] += dx[c];
    }
  }
  zero_tail<Scalar>(op.dresidual, count);
  zero_tail<Scalar>(op.dx, count);
}

}  // namespace bert::reference
