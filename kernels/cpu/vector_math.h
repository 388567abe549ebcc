// Transcendental functions on a whole SIMD register. NaN in, NaN out. The bounds are over all
// finite f32 arguments, against the exact value, and are checked by tests/cpu/vector_math_test.cpp.
#pragma once

#include "kernels/cpu/simd.h"

namespace bert::cpu {

namespace detail {

// e^x = fraction * 2^exponent for x from -105 to 89; fraction lies between 1 / sqrt 2 and sqrt 2.
struct Exponential {
  F32 fraction;
  I32 exponent;
};
inline Exponential exponential(F32 x) {
  // x = n ln 2 + r, |r| <= ln 2 / 2; e^r by a polynomial (own fit, 3e-9).
  const F32 magic = splat(12582912.0f);  // 1.5 * 2^23: rounds to integers
  const F32 shifted = x * splat(1.44269504f) + magic;
  const F32 n = shifted - magic;
  F32 r = x - n * splat(0.693145752f);  // the high part of ln 2: n times it is exact
  r = r - n * splat(1.42860677e-6f);
  F32 p = splat(0.00138145986f);
  p = p * r + splat(0.00836871688f);
  p = p * r + splat(0.041668388f);
  p = p * r + splat(0.166665206f);
  p = p * r + splat(0.499999934f);
  p = p * (r * r) + r + splat(1.0f);
  return {p, bit_cast<I32>(shifted) - bit_cast<I32>(magic)};
}
inline F32 power_of_two(I32 exponent) { return bit_cast<F32>((exponent + 127) << 23); }

}  // namespace detail

// e^x, relative error < 2e-7 (below the smallest normal number: absolute error < 1.5e-45); 0 below
// -104, infinite above 88.73.
inline F32 exp(F32 x) {
  const F32 clamped = min(splat(89.0f), max(splat(-105.0f), x));  // a NaN stays: see max
  const auto [fraction, exponent] = detail::exponential(clamped);
  // In two factors, so that results below the smallest normal number come out right.
  const I32 half = exponent >> 1;
  return fraction * detail::power_of_two(half) * detail::power_of_two(exponent - half);
}

// e^x for x <= 0 (or above it by rounding): relative error < 2e-7, zero below -87. Cheaper than
// exp.
inline F32 exp_nonpositive(F32 x) {
  const auto [fraction, exponent] = detail::exponential(max(splat(-87.0f), x));
  return x < splat(-87.0f) ? F32{} : fraction * detail::power_of_two(exponent);
}

// tanh, relative error < 3e-7.
inline F32 tanh(F32 x) {
  const F32 magnitude = bit_cast<F32>(bit_cast<U32>(x) & splat(0x7FFFFFFFu));
  const U32 sign = bit_cast<U32>(x) & splat(0x80000000u);
  // Near zero an odd polynomial (own fit, 1e-9), elsewhere 1 - 2 / (e^2|x| + 1).
  const F32 u = x * x;
  F32 p = splat(-0.00627423956f);
  p = p * u + splat(0.021071679f);
  p = p * u + splat(-0.0538523099f);
  p = p * u + splat(0.133325861f);
  p = p * u + splat(-0.333333176f);
  const F32 near = x + x * u * p;
  const F32 e = exp(splat(2.0f) * magnitude);
  const F32 far = splat(1.0f) - splat(2.0f) / (e + splat(1.0f));
  const F32 signed_far = bit_cast<F32>(bit_cast<U32>(far) | sign);
  return magnitude < splat(0.55f) ? near : signed_far;
}

// The standard normal distribution: Phi(x), absolute error < 3e-7 and, for x > -5, relative error
// < 1e-6; and its density through `density`, absolute error < 1e-7.
inline F32 normal_cdf(F32 x, F32& density) {
  // Phi(-|x|) = erfc(z) / 2, z = |x| / sqrt 2; erfc(z) e^(z^2) is a polynomial in 1 / (1 + 0.35 z)
  // (own fit, relative error 7e-9 for z < 10), as in Abramowitz & Stegun 7.1.26 but longer.
  const F32 magnitude = bit_cast<F32>(bit_cast<U32>(x) & splat(0x7FFFFFFFu));
  const F32 t = splat(1.0f) / (magnitude * splat(0.35f * 0.707106781f) + splat(1.0f));
  F32 p = splat(0.0383879561f);
  p = p * t + splat(-0.158854898f);
  p = p * t + splat(0.181282612f);
  p = p * t + splat(-0.0274582468f);
  p = p * t + splat(0.086804203f);
  p = p * t + splat(0.146162782f);
  p = p * t + splat(0.15114233f);
  p = p * t + splat(0.187912337f);
  p = p * t + splat(0.197137084f);
  p = p * t + splat(0.197483848f);
  const F32 gauss = exp_nonpositive(x * x * splat(-0.5f));
  density = gauss * splat(0.39894228f);
  const F32 tail = splat(0.5f) * (p * t) * gauss;
  return x > F32{} ? splat(1.0f) - tail : tail;
}

}  // namespace bert::cpu
