// What the bytes of e4m3 and e5m2 mean, by the formula of the formats (OCP 8-bit Floating Point
// Specification), for the stand-ins of the tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "runtime/dtype.h"

namespace bert::test {

inline float float8_value(std::uint8_t byte, DType format) {
  const bool e4m3 = format == DType::e4m3;
  const int mantissa_bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15;
  const int mantissa = byte & ((1 << mantissa_bits) - 1);
  const int exponent = (byte & 0x7f) >> mantissa_bits;
  const float sign = byte & 0x80 ? -1.0f : 1.0f;
  if (e4m3 && (byte & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  if (!e4m3 && exponent == 31) {
    return mantissa == 0 ? sign * std::numeric_limits<float>::infinity()
                         : std::numeric_limits<float>::quiet_NaN();
  }
  const int leading = exponent == 0 ? 0 : 1 << mantissa_bits;
  return sign * std::ldexp(static_cast<float>(leading + mantissa),
                           std::max(exponent, 1) - bias - mantissa_bits);
}

}  // namespace bert::test
