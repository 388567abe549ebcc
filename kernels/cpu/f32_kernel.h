// Products in f32 (see product.h), whatever lies in memory: a register of the right factor's
// columns times numbers of the left factor's rows.
#pragma once

#include <cstdint>

#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/transpose.h"

namespace bert::cpu {

// Panels of kLanes lines: the lines of p = 0, those of p = 1, and so on.
template <typename T>
struct F32Kernel {
  using Element = T;
  using Packed = float;
  static constexpr std::int64_t kVectors = 3;
  static constexpr std::int64_t kRows = kLanes, kColumns = kVectors * kLanes, kStep = 1;
  static constexpr std::int64_t kDepth = 192, kHeight = 64, kWidth = 960;
  static constexpr bool kRowsInPlace = false;
  struct Thread {};

  static void pack_rows(Factor<T> factor, Range lines, Range depth, float* to) {
    pack(factor, lines, depth, kRows, to);
  }
  static void pack_columns(Factor<T> factor, Range lines, Range depth, float* to) {
    pack(factor, lines, depth, kColumns, to);
  }

  // As many registers of sums as there are registers, all but those for factors.
  static void multiply(std::int64_t depth, const float* rows, std::int64_t /*rows_stride*/,
                       const float* columns, float* c, std::int64_t stride, bool accumulate) {
    constexpr int kHeldRows = kLanes == 16 ? 8 : 4;
    for (int first = 0; first < kRows; first += kHeldRows) {
      multiply_tile<kHeldRows, kVectors>(
          depth, [&](int i, std::int64_t p) { return rows[p * kLanes + first + i]; }, columns,
          c + first * stride, stride, accumulate);
    }
  }

 protected:
  // `lines` of the range and zeros for what a whole tile has beyond it.
  static void pack(Factor<T> factor, Range lines, Range depth, std::int64_t tile, float* to) {
    const std::int64_t n = depth.end - depth.begin;
    const std::int64_t end = lines.begin + round_up(lines.end - lines.begin, tile);
    for (std::int64_t line = lines.begin; line < end; line += kLanes, to += kLanes * n) {
      const std::int64_t left = lines.end - line;
      const int count = static_cast<int>(left < kLanes ? (left < 0 ? 0 : left) : kLanes);
      if (!factor.lines_along_memory) {
        const T* from = factor.data + depth.begin * factor.stride + line;
        if (count == kLanes) {
          for (std::int64_t p = 0; p < n; ++p) {
            store(to + p * kLanes, load(from + p * factor.stride));
          }
        } else {
          for (std::int64_t p = 0; p < n; ++p) {
            store(to + p * kLanes, load(from + p * factor.stride, FirstLanes{count}));
          }
        }
      } else {
        transpose_panel(factor.data + line * factor.stride + depth.begin, factor.stride, count, n,
                        to);
      }
    }
  }

  // to [n][kLanes] = transpose of from [count][n].
  static void transpose_panel(const T* from, std::int64_t stride, int count, std::int64_t n,
                              float* to) {
    for_lanes(0, n, [&](std::int64_t p, auto lanes) {
      F32 lines[kLanes];
      load_transposed(from + p, stride, count, lanes, lines);
      const int valid = lane_count(lanes);
      if (valid == kLanes) {
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) store(to + (p + r) * kLanes, lines[r]);
      } else {
        for (int r = 0; r < valid; ++r) store(to + (p + r) * kLanes, lines[r]);
      }
    });
  }

  // Sums in registers of left(row, p) times the right factor's panels.
  template <int kHeldRows, int kHeldVectors, typename Left>
  static void multiply_tile(std::int64_t depth, Left left, const float* columns, float* c,
                            std::int64_t stride, bool accumulate) {
    // What the sums are added to or written over is far away; there is time until it is needed.
    for (int i = 0; i < kHeldRows; ++i) {
      for (int j = 0; j < kHeldVectors; ++j) __builtin_prefetch(c + i * stride + j * kLanes);
    }
    F32 sums[kHeldRows][kHeldVectors] = {};
    const std::int64_t panel = kLanes * depth;
    // Twice, for fewer instructions a product: a processor whose other thread is busy has little
    // else to spare.
#pragma GCC unroll 2
    for (std::int64_t p = 0; p < depth; ++p) {
      F32 right[kHeldVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kHeldVectors; ++j) right[j] = load(columns + j * panel + p * kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kHeldRows; ++i) {
        const F32 number = splat(left(i, p));
#pragma GCC unroll 4
        for (int j = 0; j < kHeldVectors; ++j) sums[i][j] += number * right[j];
      }
    }
#pragma GCC unroll 12
    for (int i = 0; i < kHeldRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kHeldVectors; ++j) {
        float* at = c + i * stride + j * kLanes;
        store(at, accumulate ? load(at) + sums[i][j] : sums[i][j]);
      }
    }
  }
};

// The same where the left factor's rows lie along k and are read as they are: for a left factor
// that is multiplied with little, and not worth copying. `kVectorsWide` registers of columns.
template <int kVectorsWide>
struct F32InPlaceKernel : F32Kernel<float> {
  static constexpr std::int64_t kVectors = kVectorsWide;
  static constexpr std::int64_t kSums = kLanes == 16 ? 24 : 12;  // registers
  static constexpr std::int64_t kRows = kVectors == 1 ? 12 : kSums / kVectors;
  static constexpr std::int64_t kColumns = kVectors * kLanes;
  static constexpr std::int64_t kDepth = 192, kHeight = 48;
  static constexpr bool kRowsInPlace = true;

  static void pack_columns(Factor<float> factor, Range lines, Range depth, float* to) {
    pack(factor, lines, depth, kColumns, to);
  }
  static void multiply(std::int64_t depth, const float* rows, std::int64_t rows_stride,
                       const float* columns, float* c, std::int64_t stride, bool accumulate) {
    multiply_tile<static_cast<int>(kRows), static_cast<int>(kVectors)>(
        depth, [&](int i, std::int64_t p) { return rows[i * rows_stride + p]; }, columns, c, stride,
        accumulate);
  }
};

}  // namespace bert::cpu
