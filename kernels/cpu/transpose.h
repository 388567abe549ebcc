// Transposes in registers, and sums across them.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cpu/simd.h"

namespace bert::cpu {
namespace detail {

template <int kWidth, std::size_t... kLane>
inline void exchange(F32& a, F32& b, std::index_sequence<kLane...>) {
  const F32 low = __builtin_shufflevector(
      a, b, ((kLane & kWidth) ? kLanes + static_cast<int>(kLane) - kWidth : kLane)...);
  b = __builtin_shufflevector(
      a, b, ((kLane & kWidth) ? kLanes + static_cast<int>(kLane) : kLane + kWidth)...);
  a = low;
}

template <int kWidth>
inline void transpose_step(F32 (&rows)[kLanes]) {
  if constexpr (kWidth < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if ((i & kWidth) == 0) {
        exchange<kWidth>(rows[i], rows[i + kWidth], std::make_index_sequence<kLanes>{});
      }
    }
    transpose_step<2 * kWidth>(rows);
  }
}

template <int kWidth>
inline void sum_step(F32 (&rows)[kLanes]) {
  if constexpr (kWidth < kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; i += 2 * kWidth) {
      exchange<kWidth>(rows[i], rows[i + kWidth], std::make_index_sequence<kLanes>{});
      rows[i] += rows[i + kWidth];
    }
    sum_step<2 * kWidth>(rows);
  }
}

}  // namespace detail

// Lane i is the sum of register i's lanes, of kLanes registers; always in the same order.
inline F32 sum_each(const F32* registers) {
  F32 rows[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = registers[i];
  detail::sum_step<1>(rows);
  return rows[0];
}

// Lane j of register i becomes lane i of register j.
inline void transpose_registers(F32 (&rows)[kLanes]) { detail::transpose_step<1>(rows); }

// Register j of `columns` = column j of the `count` rows at `from`, zero beyond them.
template <typename Real, typename Lanes>
inline void load_transposed(const Real* from, std::int64_t stride, std::int64_t count, Lanes lanes,
                            F32 (&columns)[kLanes]) {
  if (count >= kLanes) {
#pragma GCC unroll 16
    for (int r = 0; r < kLanes; ++r) columns[r] = load(from + r * stride, lanes);
  } else {
    for (int r = 0; r < kLanes; ++r) {
      columns[r] = r < count ? load(from + r * stride, lanes) : F32{};
    }
  }
  transpose_registers(columns);
}

}  // namespace bert::cpu
