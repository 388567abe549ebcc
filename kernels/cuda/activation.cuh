// The activations and their derivatives in f32 (docs/derivations/gelu.md): absolute error below
// 4e-7 * max(1, |x|), tests/ops/activation_test.cpp. About 10 instructions for gelu_new, 30 for
// gelu and tanh, so that kernels which apply them stay limited by memory.
#pragma once

#include <type_traits>

#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"

namespace bert::BERT_CUDA {

inline constexpr float kGeluScale = 0.797884561f;  // sqrt(2 / pi)
inline constexpr float kGeluCubic = 0.044715f;
inline constexpr float kSqrtHalf = 0.707106781f;          // 1 / sqrt(2)
inline constexpr float kNormalDensityAt0 = 0.398942280f;  // 1 / sqrt(2 pi)

template <Activation kActivation>
__device__ __forceinline__ float activate(float x) {
  if constexpr (kActivation == Activation::gelu) {
    return 0.5f * x * (1.0f + erff(x * kSqrtHalf));
  } else if constexpr (kActivation == Activation::gelu_new) {
    // (1 + tanh u) / 2 = 1 / (1 + e^-2u). Where e^-2u overflows the quotient is zero.
    const float minus_2u = x * (-2.0f * kGeluScale) * (x * x * kGeluCubic + 1.0f);
    return __fdividef(x, 1.0f + __expf(minus_2u));
  } else if constexpr (kActivation == Activation::tanh) {
    return tanhf(x);
  } else {
    return x;
  }
}

template <Activation kActivation>
__device__ __forceinline__ float activation_derivative(float x) {
  if constexpr (kActivation == Activation::gelu) {
    const float cdf = 0.5f + 0.5f * erff(x * kSqrtHalf);
    return cdf + x * (kNormalDensityAt0 * __expf(-0.5f * x * x));
  } else if constexpr (kActivation == Activation::gelu_new) {
    // With e = e^-2|u| and s = 1 / (1 + e): (1 - tanh^2 u) / 4 = e s^2, which loses nothing where
    // tanh u is close to 1, and never overflows.
    const float square = x * x;
    const float two_u = x * (2.0f * kGeluScale) * (square * kGeluCubic + 1.0f);
    const float e = __expf(-fabsf(two_u));
    const float s = __fdividef(1.0f, 1.0f + e);
    const float half_sum = two_u > 0.0f ? s : e * s;  // (1 + tanh u) / 2
    const float du = square * (2.0f * kGeluScale * 3.0f * kGeluCubic) + 2.0f * kGeluScale;
    return half_sum + x * (e * s) * (s * du);
  } else if constexpr (kActivation == Activation::tanh) {
    const float t = tanhf(x);
    return 1.0f - t * t;
  } else {
    return 1.0f;
  }
}

// Calls body with the activation as a compile-time constant: body(std::integral_constant<...>).
template <typename Body>
void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::none:
      return body(std::integral_constant<Activation, Activation::none>{});
    case Activation::gelu:
      return body(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::gelu_new:
      return body(std::integral_constant<Activation, Activation::gelu_new>{});
    case Activation::tanh:
      return body(std::integral_constant<Activation, Activation::tanh>{});
  }
}

}  // namespace bert::BERT_CUDA
