// Products of f32 factors by tile registers, which multiply bf16 (see product.h).
//
// The 24 significant bits of an f32 are three bf16 of 8, exactly: a = a1 + a2 + a3, where a1 is a
// rounded to the nearest bf16, a2 what is left rounded, a3 the rest. So a2 is at most 2^-8 of a,
// and a3 at most 2^-17. Of the nine products that a * b then is, the six largest are summed,
//   a1 b1 + (a1 b2 + a2 b1) + (a2 b2 + a1 b3 + a3 b1),
// and what is left out is at most about 2^-24 of a * b, one rounding of f32, of either sign. Each
// product is exact in f32. The five small ones are summed first, where the sums are small and so
// are their roundings, then a1 b1 on top of that: so that a sum is rounded at its full size as
// often as with FMA. tests/cpu compares the errors of both with f64.
//
// (Henry, Tang & Heinecke 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For
// Higher-Precision Computations".)
//
// Tile instructions take what is below 2^-126 for zero, operands and results: numbers below 2^-103
// lose their last bits, and so do products. Numbers beyond the largest bf16 (3.39e38) and infinity
// give NaN.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/product.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/tiles.h"
#include "kernels/cpu/transpose.h"
#include "runtime/bfloat16.h"

namespace bert::cpu {

#if BERT_CPU_TILES

// Panels of 16 lines, cut into pieces of 32 in k; each piece is three tiles, of the first parts, of
// the second and of the third. In a tile, number k and number k + 16 of a line are neighbours:
//   rows      16 lines of 16 such pairs, one line after the other
//   columns   the first pair of every line, then the second, ...
struct SplitKernel {
  using Element = float;
  struct Packed {
    Bfloat16 parts[3];
  };
  using Thread = TileRegisters;
  static constexpr std::int64_t kLines = 16, kStep = 32, kTile = kLines * kStep;
  static constexpr std::int64_t kRows = 2 * kLines, kColumns = 2 * kLines;
  static constexpr bool kRowsInPlace = false;
  static constexpr std::int64_t kDepth = 384, kHeight = 64, kWidth = 384;

  static void pack_rows(Factor<float> factor, Range lines, Range depth, Packed* to) {
    pack<false>(factor, lines, depth, to);
  }
  static void pack_columns(Factor<float> factor, Range lines, Range depth, Packed* to) {
    pack<true>(factor, lines, depth, to);
  }

  static void multiply(std::int64_t depth, const Packed* rows, std::int64_t /*rows_stride*/,
                       const Packed* columns, float* c, std::int64_t stride, bool accumulate) {
    const std::int64_t panel = kLines * depth;
    const Packed *const below = rows + panel, *const right = columns + panel;
    const auto take_rows = [&](std::int64_t p, int part) {
      _tile_loadd(4, tile(rows + p, part), 64);
      _tile_loadd(5, tile(below + p, part), 64);
    };
    const auto take_columns = [&](std::int64_t p, int part) {
      _tile_loadd(6, tile(columns + p, part), 64);
      _tile_loadd(7, tile(right + p, part), 64);
    };
    const auto add_products = [] {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    };
    tiles_see(rows);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (std::int64_t p = 0; p < panel; p += kTile) {
      take_rows(p, 2);
      take_columns(p, 0);
      add_products();
      take_rows(p, 1);
      add_products();
      take_columns(p, 1);
      add_products();
      take_rows(p, 0);
      add_products();
      take_columns(p, 2);
      add_products();
    }
    for (std::int64_t p = 0; p < panel; p += kTile) {
      take_rows(p, 0);
      take_columns(p, 0);
      add_products();
    }
    alignas(64) float aside[kRows * kColumns];
    float* const to = accumulate ? aside : c;
    const std::int64_t to_stride = accumulate ? kColumns : stride;
    const auto bytes = static_cast<std::size_t>(to_stride) * sizeof(float);
    float* const to_below = to + kLines * to_stride;
    _tile_stored(0, to, bytes);
    _tile_stored(1, to + kLines, bytes);
    _tile_stored(2, to_below, bytes);
    _tile_stored(3, to_below + kLines, bytes);
    tiles_see(to);
    if (!accumulate) return;
    for (std::int64_t i = 0; i < kRows; ++i) {
      for (std::int64_t j = 0; j < kColumns; j += kLanes) {
        float* const at = c + i * stride + j;
        store(at, load(at) + load(aside + i * kColumns + j));
      }
    }
  }

 private:
  static const void* tile(const Packed* piece, int part) {
    return reinterpret_cast<const std::byte*>(piece) + part * 1024;
  }

  // Register i of each part's tile: pairs of the f32 in two registers, the first of a pair below.
  static void split(F32 first, F32 second, int i, F32 (&tiles)[3][kLines]) {
    const U32 upper = splat(0xFFFF0000u), half = splat(0x8000u);
#pragma GCC unroll 3
    for (int part = 0; part < 3; ++part) {
      const U32 a = (bit_cast<U32>(first) + half) & upper;
      const U32 b = (bit_cast<U32>(second) + half) & upper;
      tiles[part][i] = bit_cast<F32>((a >> 16) | b);
      first -= bit_cast<F32>(a);
      second -= bit_cast<F32>(b);
    }
  }

  template <bool kOfColumns>
  static void pack(Factor<float> factor, Range lines, Range depth, Packed* to) {
    if (factor.lines_along_memory) {
      pack_pieces<kOfColumns, true>(factor, lines, depth, to);
    } else {
      pack_pieces<kOfColumns, false>(factor, lines, depth, to);
    }
  }
  template <bool kOfColumns, bool kAlong>
  static void pack_pieces(Factor<float> factor, Range lines, Range depth, Packed* to) {
    constexpr std::int64_t kGrain = kOfColumns ? kColumns : kRows;
    const std::int64_t end = lines.begin + round_up(lines.end - lines.begin, kGrain);
    for (std::int64_t line = lines.begin; line < end; line += kLines) {
      for (std::int64_t p = depth.begin; p < depth.end; p += kStep, to += kTile) {
        const float* const from = kAlong ? factor.data + line * factor.stride + p
                                         : factor.data + p * factor.stride + line;
        // Register i of a tile: line i (along memory), or pair i of all lines (across it).
        F32 tiles[3][kLines];
        const bool whole = line + kLines <= lines.end && p + kStep <= depth.end;
        if (whole) {
#pragma GCC unroll 16
          for (int i = 0; i < kLines; ++i) {
            const float* const second =
                kAlong ? from + i * factor.stride + kLines : from + (i + kLines) * factor.stride;
            split(load(from + i * factor.stride), load(second), i, tiles);
          }
        } else {
          for (int i = 0; i < kLines; ++i) {
            F32 first{}, second{};
            if (kAlong && line + i < lines.end) {
              first = load_first(from + i * factor.stride, depth.end - p);
              second = load_first(from + i * factor.stride + kLines, depth.end - p - kLines);
            } else if (!kAlong) {
              if (p + i < depth.end) first = load_first(from + i * factor.stride, lines.end - line);
              if (p + i + kLines < depth.end) {
                second = load_first(from + (i + kLines) * factor.stride, lines.end - line);
              }
            }
            split(first, second, i, tiles);
          }
        }
        for (int part = 0; part < 3; ++part) {
          if constexpr (kAlong == kOfColumns) transpose_registers(tiles[part]);
          std::memcpy(reinterpret_cast<std::byte*>(to) + part * 1024, tiles[part], 1024);
        }
      }
    }
  }
  // The first n, zeros for the rest of a register; any n.
  static F32 load_first(const float* from, std::int64_t n) {
    return n >= kLanes ? load(from) : n > 0 ? load(from, FirstLanes{static_cast<int>(n)}) : F32{};
  }
};

// For product_of_few_rows, whose columns of the right factor are the rows here.
struct FewRowsSplitKernel : SplitKernel {
  static constexpr std::int64_t kDepth = 768, kHeight = 32;
};
#endif

}  // namespace bert::cpu
