// Products of matrices that lie in one core's cache, for attention: the calling thread's alone.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/transpose.h"

namespace bert::cpu {

// Element (i, k) of the left factor is data[i * row + k * column]; transposed by swapping strides.
struct LeftFactor {
  const float* data;
  std::int64_t row, column;
};
// Row-major, a whole number of registers readable in each row.
struct RightFactor {
  const float* data;
  std::int64_t row;
};

namespace detail {

// A block of kRows x (kVectors registers) of c, held in registers over all of k.
template <int kRows, int kVectors>
inline void product_block(std::int64_t k, LeftFactor a, RightFactor b, float* c, std::int64_t ldc,
                          bool accumulate) {
  F32 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      acc[i][j] = accumulate ? load(c + i * ldc + j * kLanes) : F32{};
    }
  }
  for (std::int64_t p = 0; p < k; ++p) {
    F32 right[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) right[j] = load(b.data + p * b.row + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const F32 left = splat(a.data[i * a.row + p * a.column]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) acc[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) store(c + i * ldc + j * kLanes, acc[i][j]);
  }
}

template <int kRows, int kVectors>
inline void product_last_rows(std::int64_t rows, std::int64_t k, LeftFactor a, RightFactor b,
                              float* c, std::int64_t ldc, bool accumulate) {
  if constexpr (kRows > 0) {
    if (rows == kRows) {
      product_block<kRows, kVectors>(k, a, b, c, ldc, accumulate);
    } else {
      product_last_rows<kRows - 1, kVectors>(rows, k, a, b, c, ldc, accumulate);
    }
  }
}

template <int kVectors>
inline void product_columns(std::int64_t m, std::int64_t k, LeftFactor a, RightFactor b, float* c,
                            std::int64_t ldc, bool accumulate) {
  constexpr int kRows = kLanes == 16 ? 8 : 4;
  std::int64_t i = 0;
  for (; i + kRows <= m; i += kRows) {
    product_block<kRows, kVectors>(k, {a.data + i * a.row, a.row, a.column}, b, c + i * ldc, ldc,
                                   accumulate);
  }
  product_last_rows<kRows - 1, kVectors>(m - i, k, {a.data + i * a.row, a.row, a.column}, b,
                                         c + i * ldc, ldc, accumulate);
}

}  // namespace detail

// c [m, n] = a b, or += when `accumulate`; n is a multiple of kLanes.
inline void small_product(std::int64_t m, std::int64_t n, std::int64_t k, LeftFactor a,
                          RightFactor b, float* c, std::int64_t ldc, bool accumulate) {
  std::int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
    detail::product_columns<2>(m, k, a, {b.data + j, b.row}, c + j, ldc, accumulate);
  }
  if (j < n) detail::product_columns<1>(m, k, a, {b.data + j, b.row}, c + j, ldc, accumulate);
}

// to [round_up(n, kLanes)][round_up(m, kLanes)] = transpose of from [m][n], zero where from has
// nothing.
template <typename Real>
inline void transpose(const Real* from, std::int64_t from_row, std::int64_t m, std::int64_t n,
                      float* to, std::int64_t to_row) {
  for (std::int64_t i = 0; i < m; i += kLanes) {
    for_lanes(0, n, [&](std::int64_t j, auto lanes) {
      F32 rows[kLanes];
      load_transposed(from + i * from_row + j, from_row, m - i, lanes, rows);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(to + (j + r) * to_row + i, rows[r]);
    });
  }
}

// to [m][to_row] = from [m][n], zero from column n to the next whole register.
template <typename Real>
inline void copy_rows(const Real* from, std::int64_t from_row, std::int64_t m, std::int64_t n,
                      float* to, std::int64_t to_row) {
  for (std::int64_t i = 0; i < m; ++i) {
    for_lanes(0, n, [&](std::int64_t j, auto lanes) {
      store(to + i * to_row + j, load(from + i * from_row + j, lanes));
    });
  }
}

}  // namespace bert::cpu
