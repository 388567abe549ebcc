// Products of large matrices on the CPU, as Goto & van de Geijn 2008 ("Anatomy of high-performance
// matrix multiplication") lay them out: both factors are copied in blocks that fit in a core's
// caches, into panels that a small kernel reads in a straight line while a tile of the result stays
// in registers. The kernels are f32_kernel.h and bf16_kernels.h.
//
// Every element of the result is one sum, added up in the order of k whatever the split: results do
// not depend on the number of threads or parts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"

namespace bert::cpu {

// A factor of a product: `lines` (rows of the left factor, columns of the right one) times k.
// Element (line, p) is data[line * stride + p] where lines run along memory, data[p * stride +
// line] where k runs across it.
template <typename T>
struct Factor {
  const T* data;
  std::int64_t stride;
  bool lines_along_memory;
};

// What a kernel multiplies at a time, and how it wants its factors:
//   Element            what lies in memory
//   Packed             what lies in panels
//   kRows, kColumns    a tile of the result
//   kStep              k is cut into multiples of it, filled up with zeros
//   kDepth, kHeight, kWidth   a block: k, rows and columns whose copies fit in caches
//   pack_rows(factor, lines, depth, to), pack_columns(...)   copies a range of lines and of k
//   multiply(depth, rows, columns, c, stride, accumulate)    one tile
//   Thread             what a thread holds while it multiplies
// A packed range takes round_up(lines, tile) * round_up(depth, kStep) elements of Packed.

// The blocks that `parts` parts make of an [m, n] product: rows x columns = parts at most, with the
// least to read for each.
struct Grid {
  int rows = 1, columns = 1;
};
inline Grid product_grid(int parts, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t kWorthSharing = 64 * 64 * 64;  // below it, waking a thread costs more
  if (m * n * k <= kWorthSharing) return {};
  Grid best;
  double least = 0.0;
  for (int rows = 1; rows <= parts; ++rows) {
    if (parts % rows != 0) continue;
    const int columns = parts / rows;
    const double read = static_cast<double>(m) / rows + static_cast<double>(n) / columns;
    if (rows == 1 || read < least) {
      best = {rows, columns};
      least = read;
    }
  }
  return best;
}

namespace detail {

// Of `n` cut into the fewest pieces of at most `limit`: the size of a piece, a multiple of `grain`.
inline std::int64_t even_piece(std::int64_t n, std::int64_t limit, std::int64_t grain) {
  const std::int64_t pieces = (n + limit - 1) / limit;
  return round_up((n + pieces - 1) / pieces, grain);
}

// The largest of the shares that share() gives.
inline std::int64_t largest_share(std::int64_t n, int parts, std::int64_t grain) {
  const std::int64_t grains = (n + grain - 1) / grain;
  const std::int64_t largest = (grains + parts - 1) / parts * grain;
  return largest < n ? largest : n;
}

// How every part cuts its share, and what it needs of scratch.
template <typename Kernel>
struct Blocks {
  std::int64_t depth, height, width;
  std::int64_t values;  // floats of results that are not in c

  Blocks(std::int64_t m, std::int64_t n, std::int64_t k, bool own_values)
      : depth(even_piece(k, Kernel::kDepth, Kernel::kStep)),
        height(even_piece(m, Kernel::kHeight, Kernel::kRows)),
        width(even_piece(n, Kernel::kWidth, Kernel::kColumns)),
        values(own_values ? (depth >= k ? height : m) * width : 0) {}
  std::int64_t packed_rows() const { return round_up(height * depth, 32); }
  std::int64_t packed() const { return packed_rows() + round_up(width * depth, 32); }
  std::size_t bytes() const {
    const auto size = static_cast<std::size_t>(packed()) * sizeof(typename Kernel::Packed) +
                      static_cast<std::size_t>(values) * sizeof(float);
    return (size + 63) / 64 * 64;
  }
};

inline Range piece(Range whole, std::int64_t begin, std::int64_t size) {
  return {begin, begin + size < whole.end ? begin + size : whole.end};
}

// One block of the result: tiles down and across it. Tiles that reach beyond it are computed aside.
template <typename Kernel>
void multiply_block(std::int64_t m, std::int64_t n, std::int64_t depth,
                    const typename Kernel::Packed* rows, const typename Kernel::Packed* columns,
                    float* c, std::int64_t stride, bool accumulate) {
  constexpr std::int64_t kRows = Kernel::kRows, kColumns = Kernel::kColumns;
  for (std::int64_t j = 0; j < n; j += kColumns) {
    for (std::int64_t i = 0; i < m; i += kRows) {
      const auto *a = rows + i * depth, *b = columns + j * depth;
      float* tile = c + i * stride + j;
      if (i + kRows <= m && j + kColumns <= n) {
        Kernel::multiply(depth, a, b, tile, stride, accumulate);
        continue;
      }
      alignas(64) float aside[kRows * kColumns];
      Kernel::multiply(depth, a, b, aside, kColumns, false);
      const std::int64_t height = i + kRows <= m ? kRows : m - i;
      for (std::int64_t r = 0; r < height; ++r) {
        for_lanes(0, j + kColumns <= n ? kColumns : n - j, [&](std::int64_t x, auto lanes) {
          F32 v = load(aside + r * kColumns + x, lanes);
          if (accumulate) v += load(tile + r * stride + x, lanes);
          store(tile + r * stride + x, v, lanes);
        });
      }
    }
  }
}

}  // namespace detail

// The left factor times the right one: [m, n], k > 0. The result is written to c [m, n], or added
// to it with `accumulate`; where c is null, it is in scratch, block by block. finish(rows, columns,
// values, stride) is called once for each block when it is complete, by the thread that made it;
// its first element, (rows.begin, columns.begin), is values[0]. Not from inside a parallel region.
template <typename Kernel, typename Finish>
void product(Team team, Scratch& scratch, std::int64_t m, std::int64_t n, std::int64_t k,
             Factor<typename Kernel::Element> a, Factor<typename Kernel::Element> b,
             bool accumulate, float* c, Finish&& finish) {
  using Packed = typename Kernel::Packed;
  const Grid grid = product_grid(team.parts, m, n, k);
  const detail::Blocks<Kernel> blocks(detail::largest_share(m, grid.rows, Kernel::kRows),
                                      detail::largest_share(n, grid.columns, Kernel::kColumns), k,
                                      c == nullptr);
  const std::size_t bytes = blocks.bytes();
  const int parts = grid.rows * grid.columns;
  auto* const memory = static_cast<std::byte*>(scratch.reserve(bytes * parts));
  on_parts({parts, team.threads}, [&](int part) {
    const Range part_rows = share(m, part / grid.columns, grid.rows, Kernel::kRows);
    const Range part_columns = share(n, part % grid.columns, grid.columns, Kernel::kColumns);
    if (part_rows.begin == part_rows.end || part_columns.begin == part_columns.end) return;
    [[maybe_unused]] const typename Kernel::Thread thread;
    auto* const packed_rows = reinterpret_cast<Packed*>(memory + bytes * part);
    Packed* const packed_columns = packed_rows + blocks.packed_rows();
    auto* const own = reinterpret_cast<float*>(packed_rows + blocks.packed());
    for (std::int64_t j = part_columns.begin; j < part_columns.end; j += blocks.width) {
      const Range columns = detail::piece(part_columns, j, blocks.width);
      for (std::int64_t p = 0; p < k; p += blocks.depth) {
        const Range ks = detail::piece({0, k}, p, blocks.depth);
        const std::int64_t depth = round_up(ks.end - ks.begin, Kernel::kStep);
        Kernel::pack_columns(b, columns, ks, packed_columns);
        for (std::int64_t i = part_rows.begin; i < part_rows.end; i += blocks.height) {
          const Range rows = detail::piece(part_rows, i, blocks.height);
          float* values = c + i * n + j;
          std::int64_t stride = n;
          if (c == nullptr) {
            values = own + (blocks.depth >= k ? 0 : (i - part_rows.begin) * blocks.width);
            stride = blocks.width;
          }
          Kernel::pack_rows(a, rows, ks, packed_rows);
          detail::multiply_block<Kernel>(rows.end - rows.begin, columns.end - columns.begin, depth,
                                         packed_rows, packed_columns, values, stride,
                                         accumulate || p > 0);
          if (ks.end == k) finish(rows, columns, values, stride);
        }
      }
    }
  });
}

}  // namespace bert::cpu
