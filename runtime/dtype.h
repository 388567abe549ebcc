// The element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "runtime/bfloat16.h"
#include "runtime/error.h"

namespace bert {

// e4m3 and e5m2: 8-bit floating point (OCP 8-bit Floating Point Specification), operands of
// products only (kernels/cuda/float8.h).
enum class DType : std::uint8_t { f64, f32, bf16, i32, u32, i64, u8, e4m3, e5m2 };

inline constexpr std::size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
    case DType::u32:
      return 4;
    case DType::bf16:
      return 2;
    case DType::u8:
    case DType::e4m3:
    case DType::e5m2:
      return 1;
  }
  return 0;
}

inline constexpr std::string_view dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "f64";
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::u32:
      return "u32";
    case DType::i64:
      return "i64";
    case DType::u8:
      return "u8";
    case DType::e4m3:
      return "e4m3";
    case DType::e5m2:
      return "e5m2";
  }
  return "?";
}

// The DType of a C++ type: dtype_of<float> == DType::f32.
template <typename T>
struct DTypeOf;
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<Bfloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::uint32_t> {
  static constexpr DType value = DType::u32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <typename T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace bert
