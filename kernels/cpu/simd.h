// One SIMD register of f32 as a value type: as wide as the target has (16 lanes with AVX-512, 8
// with AVX2, 4 otherwise), on the vector extensions that g++ and clang share. Arithmetic operators
// work lane by lane; a * b + c becomes a fused multiply-add.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/cpu/x86_intrinsics.h"
#include "runtime/bfloat16.h"

namespace bert::cpu {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
#else
inline constexpr int kLanes = 4;
#endif

typedef float F32 __attribute__((vector_size(kLanes * 4)));
typedef std::int32_t I32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint32_t U32 __attribute__((vector_size(kLanes * 4)));
typedef std::uint16_t U16 __attribute__((vector_size(kLanes * 2)));

// Which lanes of a register hold elements: all, or the first n (the tail of a row).
struct AllLanes {};
struct FirstLanes {
  int n;
};
inline constexpr int lane_count(AllLanes) { return kLanes; }
inline constexpr int lane_count(FirstLanes lanes) { return lanes.n; }

inline F32 splat(float x) { return x - F32{}; }
inline I32 splat(std::int32_t x) { return x - I32{}; }
inline U32 splat(std::uint32_t x) { return x - U32{}; }

template <typename To, typename From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline F32 load(const float* p, AllLanes = {}) {
  F32 v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
// The lanes past the first n are zero.
inline F32 load(const float* p, FirstLanes lanes) {
  F32 v{};
  std::memcpy(&v, p, static_cast<std::size_t>(lanes.n) * sizeof(float));
  return v;
}
inline U32 widen(U16 v) {
#if defined(__AVX512F__)  // g++ 12 makes four instructions of the general form
  return bit_cast<U32>(_mm512_cvtepu16_epi32(bit_cast<__m256i>(v)));
#else
  return __builtin_convertvector(v, U32);
#endif
}

// bf16 in memory is f32 in a register; rounded to the nearest when stored, ties to even.
inline U16 to_bfloat16(F32 v) {
#if defined(__AVX512BF16__)
  return bit_cast<U16>(_mm512_cvtneps_pbh(bit_cast<__m512>(v)));
#else
  const U32 bits = bit_cast<U32>(v);
  const U32 rounded = bits + splat(0x7FFFu) + ((bits >> 16) & splat(1u));
  const U32 quiet = bits | splat(0x00400000u);  // a NaN must not round to infinity
  return __builtin_convertvector((v == v ? rounded : quiet) >> 16, U16);
#endif
}
inline F32 load(const Bfloat16* p, AllLanes = {}) {
  U16 bits;
  std::memcpy(&bits, p, sizeof bits);
  return bit_cast<F32>(widen(bits) << 16);
}
inline F32 load(const Bfloat16* p, FirstLanes lanes) {
  U16 bits{};
  std::memcpy(&bits, p, static_cast<std::size_t>(lanes.n) * sizeof(Bfloat16));
  return bit_cast<F32>(widen(bits) << 16);
}
inline void store(Bfloat16* p, F32 v, AllLanes = {}) {
  const U16 bits = to_bfloat16(v);
  std::memcpy(static_cast<void*>(p), &bits, sizeof bits);
}
inline void store(Bfloat16* p, F32 v, FirstLanes lanes) {
  const U16 bits = to_bfloat16(v);
  std::memcpy(static_cast<void*>(p), &bits, static_cast<std::size_t>(lanes.n) * sizeof(Bfloat16));
}

inline void store(float* p, F32 v, AllLanes = {}) { std::memcpy(p, &v, sizeof v); }
inline void store(float* p, F32 v, FirstLanes lanes) {
  std::memcpy(p, &v, static_cast<std::size_t>(lanes.n) * sizeof(float));
}

inline I32 lane_numbers() {
  I32 v{};
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}
// v in the lanes that hold elements, `other` elsewhere.
inline F32 keep_lanes(F32 v, AllLanes, float = 0.0f) { return v; }
inline F32 keep_lanes(F32 v, FirstLanes lanes, float other = 0.0f) {
  return lane_numbers() < splat(std::int32_t{lanes.n}) ? v : splat(other);
}

// Where a lane is not a number in `a`, the result is that of `b`.
inline F32 max(F32 a, F32 b) { return a > b ? a : b; }
inline F32 min(F32 a, F32 b) { return a < b ? a : b; }

namespace detail {
template <int kDistance, std::size_t... kLane>
inline F32 swap_lanes(F32 v, std::index_sequence<kLane...>) {
  return __builtin_shufflevector(v, v, (static_cast<int>(kLane) ^ kDistance)...);
}
// Lane i of the result is lane i ^ kDistance.
template <int kDistance>
inline F32 swap_lanes(F32 v) {
  return swap_lanes<kDistance>(v, std::make_index_sequence<kLanes>{});
}
}  // namespace detail

// Sum and maximum of the lanes, always in the same order.
inline float sum(F32 v) {
  if constexpr (kLanes > 8) v += detail::swap_lanes<8 % kLanes>(v);
  if constexpr (kLanes > 4) v += detail::swap_lanes<4 % kLanes>(v);
  v += detail::swap_lanes<2>(v);
  v += detail::swap_lanes<1>(v);
  return v[0];
}
inline float max(F32 v) {
  if constexpr (kLanes > 8) v = max(v, detail::swap_lanes<8 % kLanes>(v));
  if constexpr (kLanes > 4) v = max(v, detail::swap_lanes<4 % kLanes>(v));
  v = max(v, detail::swap_lanes<2>(v));
  v = max(v, detail::swap_lanes<1>(v));
  return v[0];
}

// Calls body(first element, lanes) over [begin, end): whole registers, then what is left.
template <typename Body>
inline void for_lanes(std::int64_t begin, std::int64_t end, Body&& body) {
  std::int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) body(i, AllLanes{});
  if (i < end) body(i, FirstLanes{static_cast<int>(end - i)});
}

inline constexpr std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace bert::cpu
