// Products of bf16 factors, summed in f32 (see product.h).
//
// The processor's instructions for them take pairs of neighbours in k: a number of 32 bits holds
// two of bf16. Both kernels here have the same panels of 16 lines, cut into tiles of 32 in k:
//   rows      16 lines of 32 numbers, one line after the other
//   columns   16 lines of 16 pairs, the first pair of every line, then the second, ...
// so a tile of columns is a tile of rows transposed, pair by pair, and 1 KiB either way.
//
//   AmxKernel   Intel's tile registers (AMX-BF16): 16 x 16 sums of 32 products an instruction
//   DotKernel   AVX512-BF16: 16 sums of two products an instruction
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tiles.h"
#include "kernels/cpu/transpose.h"
#include "runtime/bfloat16.h"

#if defined(__AVX512BF16__) || BERT_CPU_TILES
#define BERT_CPU_BF16_PAIRS 1
#endif

namespace bert::cpu {

#if BERT_CPU_BF16_PAIRS

// How factors are copied into tiles, for a kernel that multiplies kRowPanels x kColumnPanels panels
// at a time.
template <std::int64_t kRowPanels, std::int64_t kColumnPanels>
struct PairPanels {
  using Element = Bfloat16;
  using Packed = Bfloat16;
  static constexpr std::int64_t kLines = 16, kStep = 32, kTile = kLines * kStep;
  static constexpr std::int64_t kRows = kRowPanels * kLines, kColumns = kColumnPanels * kLines;
  static constexpr bool kRowsInPlace = false;

  static void pack_rows(Factor<Bfloat16> factor, Range lines, Range depth, Bfloat16* to) {
    pack<false>(factor, lines, depth, kRows, to);
  }
  static void pack_columns(Factor<Bfloat16> factor, Range lines, Range depth, Bfloat16* to) {
    pack<true>(factor, lines, depth, kColumns, to);
  }

 private:
  // `lines` in panels of 16, zeros for what whole tiles of `grain` lines have beyond them.
  template <bool kOfColumns>
  static void pack(Factor<Bfloat16> factor, Range lines, Range depth, std::int64_t grain,
                   Bfloat16* to) {
    const std::int64_t end = lines.begin + round_up(lines.end - lines.begin, grain);
    for (std::int64_t line = lines.begin; line < end; line += kLines) {
      const std::int64_t left = lines.end - line;
      const int count = static_cast<int>(left < 0 ? 0 : left < kLines ? left : kLines);
      for (std::int64_t p = depth.begin; p < depth.end; p += kStep, to += kTile) {
        const std::int64_t rest = depth.end - p;
        const int length = static_cast<int>(rest < kStep ? rest : kStep);
        F32 tile[kLines];  // 16 registers of pairs
        const bool transposed = !factor.lines_along_memory;
        if (transposed) {
          load_across(factor.data + p * factor.stride + line, factor.stride, count, length, tile);
        } else {
          load_along(factor.data + line * factor.stride + p, factor.stride, count, length, tile);
        }
        // Now tile[i] is line i (along), or pair i of all lines (across).
        if (transposed != kOfColumns) transpose_registers(tile);
        std::memcpy(static_cast<void*>(to), tile, sizeof tile);
      }
    }
  }

  static F32 load_pairs(const Bfloat16* from, int n) {
    F32 v{};
    std::memcpy(&v, from, static_cast<std::size_t>(n) * sizeof(Bfloat16));
    return v;
  }
  // tile[i] = numbers 0..31 of line i.
  static void load_along(const Bfloat16* from, std::int64_t stride, int count, int length,
                         F32 (&tile)[kLines]) {
    if (count == kLines && length == kStep) {
#pragma GCC unroll 16
      for (int i = 0; i < kLines; ++i) std::memcpy(&tile[i], from + i * stride, sizeof(F32));
      return;
    }
    for (int i = 0; i < kLines; ++i) {
      tile[i] = i < count ? load_pairs(from + i * stride, length) : F32{};
    }
  }
  // tile[i] = numbers 2 i and 2 i + 1 of lines 0..15.
  static void load_across(const Bfloat16* from, std::int64_t stride, int count, int length,
                          F32 (&tile)[kLines]) {
    for (int i = 0; i < kLines; ++i) {
      const Bfloat16* const first = from + 2 * i * stride;
      if (count == kLines && 2 * i + 1 < length) {
        tile[i] = interleave(load_half(first), load_half(first + stride));
      } else {
        tile[i] = interleave(2 * i < length ? load_half(first, count) : U16{},
                             2 * i + 1 < length ? load_half(first + stride, count) : U16{});
      }
    }
  }
  static U16 load_half(const Bfloat16* from, int n = kLines) {
    U16 v{};
    std::memcpy(&v, from, static_cast<std::size_t>(n) * sizeof(Bfloat16));
    return v;
  }
  static F32 interleave(U16 low, U16 high) {
    return bit_cast<F32>(widen(low) | (widen(high) << 16));
  }
};

#if defined(__AVX512BF16__)
struct DotKernel : PairPanels<1, 3> {
  static constexpr std::int64_t kVectors = kColumns / kLines;
  static constexpr std::int64_t kDepth = 384, kHeight = 64, kWidth = 480;
  struct Thread {};

  static void multiply(std::int64_t depth, const Bfloat16* rows, std::int64_t /*rows_stride*/,
                       const Bfloat16* columns, float* c, std::int64_t stride, bool accumulate) {
    multiply_rows(depth, rows, columns, c, stride, accumulate);
    multiply_rows(depth, rows + 8 * kStep, columns, c + 8 * stride, stride, accumulate);
  }

 private:
  static void multiply_rows(std::int64_t depth, const Bfloat16* rows, const Bfloat16* columns,
                            float* c, std::int64_t stride, bool accumulate) {
    __m512 sums[8][kVectors] = {};
    const std::int64_t panel = kLines * depth;
    for (std::int64_t p = 0; p < depth; p += kStep) {
      for (std::int64_t pair = 0; pair < kStep / 2; ++pair) {
        __m512bh right[kVectors];
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) {
          std::memcpy(&right[j], columns + j * panel + p * kLines + pair * kStep, 64);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
          std::int32_t both;
          std::memcpy(&both, rows + p * kLines + i * kStep + 2 * pair, sizeof both);
          const auto left = bit_cast<__m512bh>(_mm512_set1_epi32(both));
#pragma GCC unroll 4
          for (int j = 0; j < kVectors; ++j) {
            sums[i][j] = _mm512_dpbf16_ps(sums[i][j], left, right[j]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) {
        float* at = c + i * stride + j * kLines;
        store(at, accumulate ? load(at) + bit_cast<F32>(sums[i][j]) : bit_cast<F32>(sums[i][j]));
      }
    }
  }
};
#endif  // __AVX512BF16__

#if BERT_CPU_TILES
struct AmxKernel : PairPanels<2, 2> {
  using Thread = TileRegisters;
  static constexpr std::int64_t kDepth = 512, kHeight = 256, kWidth = 512;

  // Tiles 0 to 3: 2 x 2 tiles of sums; 4 and 5 rows, 6 and 7 columns.
  static void multiply(std::int64_t depth, const Bfloat16* rows, std::int64_t /*rows_stride*/,
                       const Bfloat16* columns, float* c, std::int64_t stride, bool accumulate) {
    const std::int64_t panel = kLines * depth;
    const auto bytes = static_cast<std::size_t>(stride) * sizeof(float);
    tiles_see(rows);
    float* const below = c + kLines * stride;
    if (accumulate) {
      _tile_loadd(0, c, bytes);
      _tile_loadd(1, c + kLines, bytes);
      _tile_loadd(2, below, bytes);
      _tile_loadd(3, below + kLines, bytes);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (std::int64_t p = 0; p < depth * kLines; p += kTile) {
      _tile_loadd(4, rows + p, 64);
      _tile_loadd(6, columns + p, 64);
      _tile_loadd(7, columns + panel + p, 64);
      _tile_loadd(5, rows + panel + p, 64);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + kLines, bytes);
    _tile_stored(2, below, bytes);
    _tile_stored(3, below + kLines, bytes);
    tiles_see(c);
  }
};
#endif  // BERT_CPU_TILES

#endif  // BERT_CPU_BF16_PAIRS

}  // namespace bert::cpu
