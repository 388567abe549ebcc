// Products of a handful of rows, both of whose factors run along memory: every element is the dot
// product of two lines, computed where they lie. The right factor is read once and nothing is
// copied, which is what matters when each of its numbers is multiplied with few.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/transpose.h"

namespace bert::cpu {
// A tile of dot products: a register for each, of as many sums as it has lanes, and as many
// registers again for each `kLanes` of them to be summed lane by lane.
inline constexpr std::int64_t kDotRows = kLanes == 16 ? 4 : 2, kDotColumns = 4;

template <typename T>
inline void dot_tile(std::int64_t k, const T* const (&rows)[kDotRows],
                     const T* const (&columns)[kDotColumns], float* dots) {
  F32 sums[kDotRows * kDotColumns] = {};
  for_lanes(0, k, [&](std::int64_t p, auto lanes) {
    F32 right[kDotColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kDotColumns; ++j) right[j] = load(columns[j] + p, lanes);
#pragma GCC unroll 4
    for (int i = 0; i < kDotRows; ++i) {
      const F32 left = load(rows[i] + p, lanes);
#pragma GCC unroll 4
      for (int j = 0; j < kDotColumns; ++j) sums[i * kDotColumns + j] += left * right[j];
    }
  });
#pragma GCC unroll 4
  for (int first = 0; first < kDotRows * kDotColumns; first += kLanes) {
    store(dots + first, sum_each(sums + first));
  }
}

// Of how many rows, at most, dot products are the fastest form.
inline constexpr std::int64_t kMostDotRows = 48;

// See product.h; m <= kMostDotRows, both factors' lines along memory.
template <typename T, typename Finish>
void dot_products(int threads, std::int64_t m, std::int64_t n, std::int64_t k, Factor<T> a,
                  Factor<T> b, bool accumulate, float* c, Finish&& finish) {
  constexpr std::int64_t kColumnsAtATime = 64;
  const auto block = [&](std::int64_t index, int /*thread*/) {
    const Range columns = piece_of({0, n}, kColumnsAtATime, index);
    alignas(64) float own[kMostDotRows * kColumnsAtATime];
    float* const values = c == nullptr ? own : c + columns.begin;
    const std::int64_t stride = c == nullptr ? kColumnsAtATime : n;
    for (std::int64_t j = columns.begin; j < columns.end; j += kDotColumns) {
      for (std::int64_t i = 0; i < m; i += kDotRows) {
        // A tile that reaches beyond the last line computes that once more.
        const T *left[kDotRows], *right[kDotColumns];
        for (std::int64_t r = 0; r < kDotRows; ++r) {
          left[r] = a.data + std::min(i + r, m - 1) * a.stride;
        }
        for (std::int64_t r = 0; r < kDotColumns; ++r) {
          right[r] = b.data + std::min(j + r, n - 1) * b.stride;
        }
        float dots[kDotRows * kDotColumns];
        dot_tile(k, left, right, dots);
        float* const to = values + i * stride + (j - columns.begin);
        const std::int64_t width = std::min(kDotColumns, columns.end - j);
        for (std::int64_t r = 0; r < std::min(kDotRows, m - i); ++r) {
          for (std::int64_t x = 0; x < width; ++x) {
            const float dot = dots[r * kDotColumns + x];
            to[r * stride + x] = accumulate ? to[r * stride + x] + dot : dot;
          }
        }
      }
    }
    finish(Range{0, m}, columns, values, stride);
  };
  for_each_dynamic(threads, divide_up(n, kColumnsAtATime), block);
}

}  // namespace bert::cpu
