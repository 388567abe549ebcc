// Products: 2 R N K FLOP forward, twice that backward (product.h); bias and activation in one pass
// over each block of the output while it is in cache.
#include <type_traits>

#include "kernels/cpu/activation.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/product_kernels.h"
#include "kernels/cpu/with_flag.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {
namespace {

// y = activation(values + bias) over a block of y [.., n] whose product is in `values`, which may
// be y itself; the pre-activation is kept in `pre` if given.
template <typename Real, Activation kActivation, bool kBias, bool kKeep>
void finish_forward(const float* values, std::int64_t stride, Real* y, Real* pre, const Real* bias,
                    Range rows, Range columns, std::int64_t n) {
  for (std::int64_t r = rows.begin; r < rows.end; ++r, values += stride) {
    for_lanes(columns.begin, columns.end, [&](std::int64_t c, auto lanes) {
      F32 v = load(values + (c - columns.begin), lanes);
      if constexpr (kBias) v += load(bias + c, lanes);
      if constexpr (kKeep) store(pre + r * n + c, v, lanes);
      store(y + r * n + c, activate<kActivation>(v), lanes);
    });
  }
}

// dx = values * activation'(pre), or dx += values, over a block of dx [.., n].
template <typename Real, Activation kActivation, bool kAccumulate>
void finish_backward(const float* values, std::int64_t stride, const Real* pre, Real* dx,
                     Range rows, Range columns, std::int64_t n) {
  for (std::int64_t r = rows.begin; r < rows.end; ++r, values += stride) {
    for_lanes(columns.begin, columns.end, [&](std::int64_t c, auto lanes) {
      F32 d = load(values + (c - columns.begin), lanes);
      if constexpr (kAccumulate) d += load(dx + r * n + c, lanes);
      if constexpr (kActivation != Activation::none) {
        d *= activation_derivative<kActivation>(load(pre + r * n + c, lanes));
      }
      store(dx + r * n + c, d, lanes);
    });
  }
}

// Where a product in f32 may be computed: in place. One in bf16 is rounded once it is complete.
template <typename Real>
float* in_place(Real* values) {
  if constexpr (std::is_same_v<Real, float>) return values;
  return nullptr;
}

constexpr auto kNothing = [](Range, Range, const float*, std::int64_t) {};

}  // namespace

template <typename Real>
void CpuOps<Real>::add_column_sums(const Real* dy, std::int64_t rows, std::int64_t n, float* into) {
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
        const Real* row = dy + r * n + c;
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

template <typename Real>
void CpuOps<Real>::linear_forward(const LinearForward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.x.rows());
  const std::int64_t k = op.x.dim(1), n = op.y.dim(1);
  Real* y = op.y.data<Real>();
  const Real* bias = op.bias.data<Real>();
  Real* pre = op.pre_activation.data<Real>();
  const bool as_it_is =
      in_place(y) != nullptr && bias == nullptr && op.activation == Activation::none;
  const auto finish = [&](Range block_rows, Range columns, const float* values,
                          std::int64_t stride) {
    if (as_it_is) return;
    with_activation(op.activation, [&](auto activation) {
      with_flag(bias != nullptr, [&](auto with_bias) {
        with_flag(pre != nullptr, [&](auto keep) {
          finish_forward<Real, decltype(activation)::value, decltype(with_bias)::value, keep.value>(
              values, stride, y, pre, bias, block_rows, columns, n);
        });
      });
    });
  };
  if (rows > 0) {
    product<Real>(team_.threads, scratch_, rows, n, k, {op.x.data<Real>(), k, true},
                  {op.weight.compute.data<Real>(), k, true}, false, in_place(y), finish);
  }
  zero_tail(op.y, rows);
  zero_tail(op.pre_activation, rows);
}

template <typename Real>
void CpuOps<Real>::linear_backward(const LinearBackward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.dy.rows());
  const std::int64_t n = op.dy.dim(1), k = op.weight.compute.dim(1);
  const Real* dy = op.dy.data<Real>();
  if (rows > 0) {
    if (op.dbias) add_column_sums(dy, rows, n, op.dbias.data<float>());
    if (op.dweight) {
      product<Real>(team_.threads, scratch_, n, k, rows, {dy, n, false},
                    {op.x.data<Real>(), k, false}, true, op.dweight.data<float>(), kNothing);
    }
    if (op.dx) {
      Real* dx = op.dx.data<Real>();
      const bool in_f32 = in_place(dx) != nullptr;
      product<Real>(
          team_.threads, scratch_, rows, k, n, {dy, n, true},
          {op.weight.compute.data<Real>(), k, false}, op.accumulate_dx && in_f32, in_place(dx),
          [&](Range block_rows, Range columns, const float* values, std::int64_t stride) {
            if (in_f32 && op.input_activation == Activation::none) return;
            if (op.accumulate_dx) {
              finish_backward<Real, Activation::none, true>(values, stride, nullptr, dx, block_rows,
                                                            columns, k);
              return;
            }
            with_activation(op.input_activation, [&](auto activation) {
              finish_backward<Real, decltype(activation)::value, false>(
                  values, stride, op.input_pre_activation.data<Real>(), dx, block_rows, columns, k);
            });
          });
    }
  }
  if (op.dx && !op.accumulate_dx) zero_tail(op.dx, rows);
}

template <typename Real>
void CpuOps<Real>::activation_backward(const ActivationBackward& op) {
  check(op, dtype());
  const std::int64_t rows = row_count(op.rows, op.dy.rows()), n = op.dy.dim(1);
  const Real *dy = op.dy.data<Real>(), *pre = op.pre_activation.data<Real>();
  Real* dx = op.dx.data<Real>();
  on_parts(team_, [&](int part) {
    const Range range = share(rows, part, team_.parts);
    with_activation(op.activation, [&](auto activation) {
      for_lanes(range.begin * n, range.end * n, [&](std::int64_t i, auto lanes) {
        store(dx + i,
              load(dy + i, lanes) *
                  activation_derivative<decltype(activation)::value>(load(pre + i, lanes)),
              lanes);
      });
    });
  });
  zero_tail(op.dx, rows);
}

template void CpuOps<float>::linear_forward(const LinearForward&);
template void CpuOps<Bfloat16>::linear_forward(const LinearForward&);
template void CpuOps<float>::linear_backward(const LinearBackward&);
template void CpuOps<Bfloat16>::linear_backward(const LinearBackward&);
template void CpuOps<float>::activation_backward(const ActivationBackward&);
template void CpuOps<Bfloat16>::activation_backward(const ActivationBackward&);

}  // namespace bert::cpu
