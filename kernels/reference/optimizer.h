// The global gradient norm with clipping, and AdamW (Loshchilov & Hutter 2019).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/ops.h"

namespace bert::reference {

template <typename Scalar>
void gradient_norm(const ComputeGradientNorm& op) {
  const Scalar* gradients = op.gradients.data<Scalar>();
  const std::int64_t size = op.gradients.numel();
  GradientNorm result;
  double total = 0.0;
  constexpr std::int64_t kBlock = 4096;  // fixed blocks: partial sums keep their rounding small
  for (std::int64_t first = 0; first < size; first += kBlock) {
    double block = 0.0;
    for (std::int64_t i = first; i < std::min(first + kBlock, size); ++i) {
      const double g = static_cast<double>(gradients[i]);
      if (!std::isfinite(g)) ++result.nonfinite;
      block += g * g;
    }
    total += block;
  }
  result.norm = std::sqrt(total);
  if (op.max_norm > 0.0 && result.norm > op.max_norm) result.scale = op.max_norm / result.norm;
  result.refused = refuses_update(result.nonfinite, op.loss, op.gate);
  *op.result = result;
}

template <typename Scalar>
void adamw(const AdamW& op) {
  if (op.norm->refused != 0) return;  // a poisoned step changes nothing
  const Scalar beta1 = static_cast<Scalar>(op.beta1), beta2 = static_cast<Scalar>(op.beta2);
  const Scalar learning_rate = static_cast<Scalar>(op.step->learning_rate);
  const Scalar correction1 = static_cast<Scalar>(op.step->bias_correction1);
  const Scalar correction2 = static_cast<Scalar>(op.step->bias_correction2);
  const Scalar clip = static_cast<Scalar>(op.norm->scale);
  Scalar* parameters = op.parameters.data<Scalar>();
  Scalar* m = op.m.data<Scalar>();
  Scalar* v = op.v.data<Scalar>();
  for (std::int64_t i = 0; i < op.parameters.numel(); ++i) {
    const Scalar g = op.gradients.data<Scalar>()[i] * clip;
    m[i] = beta1 * m[i] + static_cast<Scalar>(1.0 - op.beta1) * g;
    v[i] = beta2 * v[i] + static_cast<Scalar>(1.0 - op.beta2) * g * g;
    const Scalar decay = op.decays.data<std::uint8_t>()[i / AdamW::kBlock]
                             ? static_cast<Scalar>(op.weight_decay)
                             : Scalar(0);
    const Scalar direction =
        (m[i] / correction1) / (std::sqrt(v[i] / correction2) + static_cast<Scalar>(op.epsilon));
    parameters[i] -= learning_rate * (direction + decay * parameters[i]);
  }
}

}  // namespace bert::reference
