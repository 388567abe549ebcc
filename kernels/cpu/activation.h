// The activations and their derivatives on a SIMD register. Absolute error against exact
// arithmetic < 4e-7 * max(1, |x|), checked by tests/cpu/vector_math_test.cpp.
#pragma once

#include <type_traits>

#include "kernels/cpu/vector_math.h"
#include "kernels/ops.h"

namespace bert::cpu {

// gelu_new is x * (1 + tanh(u)) / 2 with u = kGeluScale * (x + kGeluCubic * x^3). As
// (1 + tanh(u)) / 2 = 1 / (1 + e^-2u), one exponential and one division do.
inline constexpr float kGeluScale = 0.797884561f;  // sqrt(2 / pi)
inline constexpr float kGeluCubic = 0.044715f;

template <Activation kActivation>
inline F32 activate(F32 x) {
  if constexpr (kActivation == Activation::gelu) {
    F32 density;
    return x * normal_cdf(x, density);
  } else if constexpr (kActivation == Activation::gelu_new) {
    const F32 inner = x * splat(-2.0f * kGeluScale);
    const F32 minus_2u = inner * (x * x * splat(kGeluCubic) + splat(1.0f));
    return x / (splat(1.0f) + exp(minus_2u));
  } else if constexpr (kActivation == Activation::tanh) {
    return tanh(x);
  } else {
    return x;
  }
}

template <Activation kActivation>
inline F32 activation_derivative(F32 x) {
  if constexpr (kActivation == Activation::gelu) {
    F32 density;
    const F32 cdf = normal_cdf(x, density);
    return cdf + x * density;
  } else if constexpr (kActivation == Activation::gelu_new) {
    // With s = 1 / (1 + e^-2|u|) and e = e^-2|u|: (1 - tanh^2 u) / 4 = e s^2, which loses nothing
    // where tanh(u) is close to 1.
    const F32 square = x * x;
    const F32 two_u = x * splat(2.0f * kGeluScale) * (square * splat(kGeluCubic) + splat(1.0f));
    const F32 magnitude = bit_cast<F32>(bit_cast<U32>(two_u) & splat(0x7FFFFFFFu));
    const F32 e = exp_nonpositive(-magnitude);
    const F32 s = splat(1.0f) / (splat(1.0f) + e);
    const F32 half_sum = two_u > F32{} ? s : e * s;  // (1 + tanh u) / 2
    const F32 du = square * splat(2.0f * kGeluScale * 3.0f * kGeluCubic) + splat(2.0f * kGeluScale);
    return half_sum + x * (e * s) * (s * du);
  } else if constexpr (kActivation == Activation::tanh) {
    const F32 t = tanh(x);
    return splat(1.0f) - t * t;
  } else {
    return splat(1.0f);
  }
}

// Calls body with the activation as a compile-time constant: body(std::integral_constant<...>).
template <typename Body>
inline void with_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::none:
      body(std::integral_constant<Activation, Activation::none>{});
      break;
    case Activation::gelu:
      body(std::integral_constant<Activation, Activation::gelu>{});
      break;
    case Activation::gelu_new:
      body(std::integral_constant<Activation, Activation::gelu_new>{});
      break;
    case Activation::tanh:
      body(std::integral_constant<Activation, Activation::tanh>{});
      break;
  }
}

}  // namespace bert::cpu
