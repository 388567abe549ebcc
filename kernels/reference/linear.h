// y = activation(x W^T + bias) and its gradients.
//
// Each product is written as "add a multiple of a row to a row": the textbook triple loop in the
// order that walks all three matrices along their rows.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

// y[0..n) += a * x[0..n)
template <typename Scalar>
void add_multiple(Scalar a, const Scalar* x, std::int64_t n, Scalar* y) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

template <typename Scalar>
void linear_forward(const LinearForward& op) {
  const std::int64_t rows = row_count(op.rows, op.x.rows());
  const std::int64_t k = op.x.dim(1), n = op.y.dim(1);
  const Scalar* weight = op.weight.compute.data<Scalar>();
  std::vector<Scalar> transposed(static_cast<std::size_t>(k * n));  // [K, N]
  for (std::int64_t o = 0; o < n; ++o) {
    for (std::int64_t i = 0; i < k; ++i) {
      transposed[static_cast<std::size_t>(i * n + o)] = weight[o * k + i];
    }
  }
  const Scalar* bias = op.bias ? op.bias.data<Scalar>() : nullptr;
  std::vector<Scalar> row(static_cast<std::size_t>(n));
  for (std::int64_t r = 0; r < rows; ++r) {
    std::fill(row.begin(), row.end(), Scalar(0));
    for (std::int64_t i = 0; i < k; ++i) {
      add_multiple(op.x.data<Scalar>()[r * k + i], transposed.data() + i * n, n, row.data());
    }
    Scalar* y = op.y.data<Scalar>() + r * n;
    for (std::int64_t o = 0; o < n; ++o) {
      const Scalar pre = row[static_cast<std::size_t>(o)] + (bias ? bias[o] : Scalar(0));
      if (op.pre_activation) op.pre_activation.data<Scalar>()[r * n + o] = pre;
      y[o] = activate(op.activation, pre);
    }
  }
  zero_tail<Scalar>(op.y, rows);
  if (op.pre_activation) zero_tail<Scalar>(op.pre_activation, rows);
}

template <typename Scalar>
void linear_backward(const LinearBackward& op) {
  const std::int64_t rows = row_count(op.rows, op.dy.rows());
  const std::int64_t n = op.dy.dim(1), k = op.weight.compute.dim(1);
  const Scalar* weight = op.weight.compute.data<Scalar>();
  for (std::int64_t r = 0; r < rows; ++r) {
    const Scalar* dy = op.dy.data<Scalar>() + r * n;
    if (op.dx) {  // dx = dy W, or dx += dy W
      Scalar* dx = op.dx.data<Scalar>() + r * k;
      if (!op.accumulate_dx) std::fill(dx, dx + k, Scalar(0));
      for (std::int64_t o = 0; o < n; ++o) add_multiple(dy[o], weight + o * k, k, dx);
      if (op.input_activation != Activation::none) {
        const Scalar* pre = op.input_pre_activation.data<Scalar>() + r * k;
        for (std::int64_t i = 0; i < k; ++i) {
          dx[i] *= activation_derivative(op.input_activation, pre[i]);
        }
      }
    }
    if (op.dweight) {  // dweight += dy^T x
      const Scalar* x = op.x.data<Scalar>() + r * k;
      for (std::int64_t o = 0; o < n; ++o) {
        add_multiple(dy[o], x, k, op.dweight.data<Scalar>() + o * k);
      }
    }
    if (op.dbias) add_multiple(Scalar(1), dy, n, op.dbias.data<Scalar>());
  }
  if (op.dx && !op.accumulate_dx) zero_tail<Scalar>(op.dx, rows);
}

}  // namespace bert::reference
