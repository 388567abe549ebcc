// Products: 2 R N K FLOP forward, twice that backward, by OpenBLAS; bias and activation in one pass
// over the product's output (8 to 12 bytes an element).
#include "kernels/cpu/activation.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"

namespace bert::cpu {
namespace {

// y = activation(y + bias) over a block of y [.., n]; the pre-activation is kept in `pre` if given.
template <Activation kActivation, bool kBias, bool kKeep>
void finish_block(float* y, float* pre, const float* bias, Range rows, Range columns,
                  std::int64_t n) {
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    float* y_row = y + r * n;
    float* pre_row = kKeep ? pre + r * n : nullptr;
    for_lanes(columns.begin, columns.end, [&](std::int64_t c, auto lanes) {
      F32 v = load(y_row + c, lanes);
      if constexpr (kBias) v += load(bias + c, lanes);
      if constexpr (kKeep) store(pre_row + c, v, lanes);
      store(y_row + c, activate<kActivation>(v), lanes);
    });
  }
}

// dx = dy * activation'(pre) over a block of [.., n].
template <Activation kActivation>
void differentiate_block(const float* dy, const float* pre, float* dx, Range rows, Range columns,
                         std::int64_t n) {
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    for_lanes(r * n + columns.begin, r * n + columns.end, [&](std::int64_t i, auto lanes) {
      store(dx + i, load(dy + i, lanes) * activation_derivative<kActivation>(load(pre + i, lanes)),
            lanes);
    });
  }
}

}  // namespace

void CpuOps::add_column_sums(const float* dy, std::int64_t rows, std::int64_t n, float* into) {
  const std::int64_t stride = round_up(n, 16);
  float* partials = per_part(stride);
  on_parts(team_, [&](int part) {
    float* own = partials + stride * part;
    const Range range = share(rows, part, team_.parts);
    // Four registers of columns down all rows of the share: sums stay in registers.
    constexpr std::int64_t kWide = 4 * kLanes;
    std::int64_t c = 0;
    for (; c + kWide <= n; c += kWide) {
      F32 s0{}, s1{}, s2{}, s3{};
      for (std::int64_t r = range.begin; r < range.end; ++r) {
        const float* row = dy + r * n + c;
        s0 += load(row);
        s1 += load(row + kLanes);
        s2 += load(row + 2 * kLanes);
        s3 += load(row + 3 * kLanes);
      }
      store(own + c, s0);
      store(own + c + kLanes, s1);
      store(own + c + 2 * kLanes, s2);
      store(own + c + 3 * kLanes, s3);
    }
    for_lanes(c, n, [&](std::int64_t column, auto lanes) {
      F32 total{};
      for (std::int64_t r = range.begin; r < range.end; ++r) {
        total += load(dy + r * n + column, lanes);
      }
      store(own + column, total, lanes);
    });
  });
  add_partials(partials, stride, n, into);
}

void CpuOps::linear_forward(const LinearForward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.x.rows());
  const std::int64_t k = op.x.dim(1), n = op.y.dim(1);
  float* y = op.y.data<float>();
  const float* bias = op.bias.data<float>();
  float* pre = op.pre_activation.data<float>();
  if (rows > 0) {
    product(team_, false, true, rows, n, k, op.x.data<float>(), op.weight.compute.data<float>(),
            0.0f, y, [&](Range block_rows, Range columns) {
              if (bias == nullptr && op.activation == Activation::none) return;
              with_activation(op.activation, [&](auto activation) {
                constexpr Activation kActivation = decltype(activation)::value;
                if (bias != nullptr && pre != nullptr) {
                  finish_block<kActivation, true, true>(y, pre, bias, block_rows, columns, n);
                } else if (bias != nullptr) {
                  finish_block<kActivation, true, false>(y, pre, bias, block_rows, columns, n);
                } else if (pre != nullptr) {
                  finish_block<kActivation, false, true>(y, pre, bias, block_rows, columns, n);
                } else {
                  finish_block<kActivation, false, false>(y, pre, bias, block_rows, columns, n);
                }
              });
            });
  }
  zero_tail(op.y, rows);
  zero_tail(op.pre_activation, rows);
}

void CpuOps::linear_backward(const LinearBackward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.dy.rows());
  const std::int64_t n = op.dy.dim(1), k = op.weight.compute.dim(1);
  const float* dy = op.dy.data<float>();
  if (rows > 0) {
    if (op.dbias) add_column_sums(dy, rows, n, op.dbias.data<float>());
    if (op.dweight) {
      product(team_, true, false, n, k, rows, dy, op.x.data<float>(), 1.0f,
              op.dweight.data<float>());
    }
    if (op.dx) {
      float* dx = op.dx.data<float>();
      const float* pre = op.input_pre_activation.data<float>();
      product(team_, false, false, rows, k, n, dy, op.weight.compute.data<float>(),
              op.accumulate_dx ? 1.0f : 0.0f, dx, [&](Range block_rows, Range columns) {
                if (op.input_activation == Activation::none) return;
                with_activation(op.input_activation, [&](auto activation) {
                  differentiate_block<decltype(activation)::value>(dx, pre, dx, block_rows, columns,
                                                                   k);
                });
              });
    }
  }
  if (op.dx && !op.accumulate_dx) zero_tail(op.dx, rows);
}

void CpuOps::activation_backward(const ActivationBackward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.dy.rows());
  on_parts(team_, [&](int part) {
    with_activation(op.activation, [&](auto activation) {
      differentiate_block<decltype(activation)::value>(
          op.dy.data<float>(), op.pre_activation.data<float>(), op.dx.data<float>(),
          share(rows, part, team_.parts), {0, op.dy.dim(1)}, op.dy.dim(1));
    });
  });
  zero_tail(op.dx, rows);
}

}  // namespace bert::cpu
