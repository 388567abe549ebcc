// LayerNorm. Forward reads and writes a row once (8 bytes an element); backward reads two and
// writes one (12 bytes), with the column sums of dgamma and dbeta in the same pass.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/layer_norm_row.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::layer_norm_forward(const LayerNormForward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.x.rows()), channels = op.x.dim(1);
  const Real* x = op.x.data<Real>();
  const float *gamma = op.gamma.data<float>(), *beta = op.beta.data<float>();
  Real* y = op.y.data<Real>();
  float *mean = op.mean.data<float>(), *rstd = op.rstd.data<float>();
  on_parts(team_, [&](int part) {
    const Range range = share(rows, part, team_.parts);
    for (std::int64_t r = range.begin; r < range.end; ++r) {
      const Real* x_row = x + r * channels;
      Real* y_row = y + r * channels;
      F32 total{};
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) { total += load(x_row + c, lanes); });
      const RowStatistics row = row_statistics(x_row, channels, total, op.epsilon);
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        store(y_row + c, normalized(x_row, gamma, beta, c, row, lanes), lanes);
      });
      mean[r] = row.mean;
      rstd[r] = row.rstd;
    }
  });
  zero_tail(op.y, rows);
}

template <typename Real>
void CpuOps<Real>::layer_norm_backward(const LayerNormBackward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.x.rows()), channels = op.x.dim(1);
  const Real *dy = op.dy.data<Real>(), *x = op.x.data<Real>();
  const float *gamma = op.gamma.data<float>(), *mean = op.mean.data<float>(),
              *rstd = op.rstd.data<float>();
  Real* dx = op.dx.data<Real>();
  const std::int64_t stride = round_up(channels, 16);
  float* partials = per_part(2 * stride);
  on_parts(team_, [&](int part) {
    float* dgamma = partials + 2 * stride * part;
    float* dbeta = dgamma + stride;
    std::memset(dgamma, 0, static_cast<std::size_t>(2 * stride) * sizeof(float));
    const Range range = share(rows, part, team_.parts);
    for (std::int64_t r = range.begin; r < range.end; ++r) {
      const Real *x_row = x + r * channels, *dy_row = dy + r * channels;
      Real* dx_row = dx + r * channels;
      const RowStatistics row{mean[r], rstd[r]};
      const RowGradientMeans means =
          row_gradient_means([&](std::int64_t c, auto lanes) { return load(dy_row + c, lanes); },
                             x_row, gamma, channels, row, dgamma, dbeta);
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        F32 d = row_gradient(load(dy_row + c, lanes), x_row, gamma, c, row, means, lanes);
        if (op.accumulate_dx) d += load(dx_row + c, lanes);
        store(dx_row + c, d, lanes);
      });
    }
  });
  add_partials(partials, 2 * stride, channels, op.dgamma.data<float>());
  add_partials(partials + stride, 2 * stride, channels, op.dbeta.data<float>());
  if (!op.accumulate_dx) zero_tail(op.dx, rows);
}

template void CpuOps<float>::layer_norm_forward(const LayerNormForward&);
template void CpuOps<Bfloat16>::layer_norm_forward(const LayerNormForward&);
template void CpuOps<float>::layer_norm_backward(const LayerNormBackward&);
template void CpuOps<Bfloat16>::layer_norm_backward(const LayerNormBackward&);

}  // namespace bert::cpu
