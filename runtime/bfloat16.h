// Bfloat16: the upper half of an f32 (1 sign, 8 exponent, 7 mantissa bits), as host code stores and
// converts it. Same bits as the device's __nv_bfloat16.
#pragma once

#include <bit>
#include <cstdint>

namespace bert {

struct Bfloat16 {
  std::uint16_t bits = 0;

  Bfloat16() = default;
  // Rounds to nearest, ties to even; NaN stays NaN, what is too large becomes infinity.
  explicit constexpr Bfloat16(float value) : bits(round(value)) {}
  explicit constexpr operator float() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }

 private:
  static constexpr std::uint16_t round(float value) {
    const auto word = std::bit_cast<std::uint32_t>(value);
    if ((word & 0x7FFFFFFFu) > 0x7F800000u) {  // NaN: quiet, its sign kept
      return static_cast<std::uint16_t>((word >> 16) | 0x0040u);
    }
    return static_cast<std::uint16_t>((word + 0x7FFFu + ((word >> 16) & 1u)) >> 16);
  }
};

}  // namespace bert
