// Products of a handful of rows, both of whose factors run along memory: every element is the dot
// product of two lines, computed where they lie. The right factor is read once and nothing is
// copied, which is what matters when each of its numbers is multiplied with few. 2 m n k FLOP for
// 4 (m k + n k + m n) bytes in f32: at 19 rows 9 FLOP a byte.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/transpose.h"
#include "runtime/error.h"

namespace bert::cpu {

// A tile of dot products, each a register of partial sums. Their number is a multiple of kLanes, as
// sum_each adds up the lanes of that many registers at once.
inline constexpr std::int64_t kDotTileRows = kLanes == 16 ? 4 : 2, kDotTileColumns = 4;
static_assert(kDotTileRows * kDotTileColumns % kLanes == 0);

template <typename T>
inline void dot_tile(std::int64_t k, const T* const (&rows)[kDotTileRows],
                     const T* const (&columns)[kDotTileColumns], float* dots) {
  F32 sums[kDotTileRows * kDotTileColumns] = {};
  for_lanes(0, k, [&](std::int64_t p, auto lanes) {
    F32 right[kDotTileColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kDotTileColumns; ++j) right[j] = load(columns[j] + p, lanes);
#pragma GCC unroll 4
    for (int i = 0; i < kDotTileRows; ++i) {
      const F32 left = load(rows[i] + p, lanes);
#pragma GCC unroll 4
      for (int j = 0; j < kDotTileColumns; ++j) sums[i * kDotTileColumns + j] += left * right[j];
    }
  });
#pragma GCC unroll 4
  for (int first = 0; first < kDotTileRows * kDotTileColumns; first += kLanes) {
    store(dots + first, sum_each(sums + first));
  }
}

// Of how many rows, at most, dot products are the fastest form, and how many columns a task has.
inline constexpr std::int64_t kMostDotRows = 48, kMostDotColumns = 64;

// See product.h; m <= kMostDotRows, both factors' lines along memory.
template <typename T, typename Finish>
void dot_products(int threads, std::int64_t m, std::int64_t n, std::int64_t k, Factor<T> a,
                  Factor<T> b, bool accumulate, float* c, Finish&& finish) {
  BERT_CHECK(m <= kMostDotRows && a.lines_along_memory && b.lines_along_memory);
  const std::int64_t width = even_piece(
      n, std::clamp(n / (kTasks * threads), kDotTileColumns, kMostDotColumns), kDotTileColumns);
  const auto block = [&](std::int64_t index, int /*thread*/) {
    const Range columns = piece_of({0, n}, width, index);
    alignas(64) float own[kMostDotRows * kMostDotColumns];
    float* const values = c == nullptr ? own : c + columns.begin;
    const std::int64_t stride = c == nullptr ? width : n;
    for (std::int64_t j = columns.begin; j < columns.end; j += kDotTileColumns) {
      for (std::int64_t i = 0; i < m; i += kDotTileRows) {
        // A tile that reaches beyond the last line computes that once more.
        const T *left[kDotTileRows], *right[kDotTileColumns];
        for (std::int64_t r = 0; r < kDotTileRows; ++r) {
          left[r] = a.data + std::min(i + r, m - 1) * a.stride;
        }
        for (std::int64_t r = 0; r < kDotTileColumns; ++r) {
          right[r] = b.data + std::min(j + r, n - 1) * b.stride;
        }
        float dots[kDotTileRows * kDotTileColumns];
        dot_tile(k, left, right, dots);
        float* const to = values + i * stride + (j - columns.begin);
        const std::int64_t valid = std::min(kDotTileColumns, columns.end - j);
        for (std::int64_t r = 0; r < std::min(kDotTileRows, m - i); ++r) {
          for (std::int64_t x = 0; x < valid; ++x) {
            const float dot = dots[r * kDotTileColumns + x];
            to[r * stride + x] = accumulate ? to[r * stride + x] + dot : dot;
          }
        }
      }
    }
    finish(Range{0, m}, columns, values, stride);
  };
  for_each_dynamic(threads, divide_up(n, width), block);
}

}  // namespace bert::cpu
