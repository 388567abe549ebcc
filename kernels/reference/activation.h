// The activations and their derivatives; equations of docs/derivations/gelu.md.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

inline constexpr double kSqrtHalf = 0.70710678118654752440;          // 1 / sqrt(2)
inline constexpr double kInverseSqrtTwoPi = 0.39894228040143267794;  // 1 / sqrt(2 pi)
inline constexpr double kSqrtTwoOverPi = 0.79788456080286535588;     // sqrt(2 / pi)
inline constexpr double kGeluNewCubic = 0.044715;                    // of google-research/bert

template <typename Scalar>
Scalar activate(Activation activation, Scalar x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::gelu:  // (1), (2)
      return x * Scalar(0.5) * (Scalar(1) + std::erf(x * Scalar(kSqrtHalf)));
    case Activation::gelu_new:  // (4)
      return Scalar(0.5) * x *
             (Scalar(1) +
              std::tanh(Scalar(kSqrtTwoOverPi) * (x + Scalar(kGeluNewCubic) * x * x * x)));
    case Activation::tanh:
      return std::tanh(x);
  }
  return x;
}

template <typename Scalar>
Scalar activation_derivative(Activation activation, Scalar x) {
  switch (activation) {
    case Activation::none:
      return Scalar(1);
    case Activation::gelu: {  // (3)
      const Scalar cdf = Scalar(0.5) * (Scalar(1) + std::erf(x * Scalar(kSqrtHalf)));
      const Scalar pdf = Scalar(kInverseSqrtTwoPi) * std::exp(Scalar(-0.5) * x * x);
      return cdf + x * pdf;
    }
    case Activation::gelu_new: {  // (6)
      const Scalar u = Scalar(kSqrtTwoOverPi) * (x + Scalar(kGeluNewCubic) * x * x * x);
      const Scalar du =
          Scalar(kSqrtTwoOverPi) * (Scalar(1) + Scalar(3) * Scalar(kGeluNewCubic) * x * x);
      const Scalar tanh_u = std::tanh(u);
      return Scalar(0.5) * (Scalar(1) + tanh_u) +
             Scalar(0.5) * x * (Scalar(1) - tanh_u * tanh_u) * du;
    }
    case Activation::tanh: {  // (8)
      const Scalar y = std::tanh(x);
      return Scalar(1) - y * y;
    }
  }
  return Scalar(1);
}

template <typename Scalar>
void activation_backward(const ActivationBackward& op) {
  const std::int64_t rows = row_count(op.rows, op.dy.rows()), n = op.dy.dim(1);
  const Scalar* dy = op.dy.data<Scalar>();
  const Scalar* pre = op.pre_activation.data<Scalar>();
  Scalar* dx = op.dx.data<Scalar>();
  for (std::int64_t i = 0; i < rows * n; ++i) {
    dx[i] = dy[i] * activation_derivative(op.activation, pre[i]);
  }
  zero_tail<Scalar>(op.dx, rows);
}

}  // namespace bert::reference
