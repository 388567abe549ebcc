// Products of large matrices on the CPU, as Goto & van de Geijn 2008 ("Anatomy of high-performance
// matrix multiplication") lay them out: both factors are copied in blocks that fit in a core's
// caches, into panels that a small kernel reads in a straight line while a tile of the result stays
// in registers. The kernels are f32_kernel.h and bf16_kernels.h.
//
// Every element of the result is a sum over k in one order, in blocks that depend on k alone: how
// the work is shared out among threads decides nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include <omp.h>

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
//   kName              for logs, empty for the usual one
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

// Rows whose sums wait in scratch for the rest of k, at most (and a block more): a few MB.
inline constexpr std::int64_t kTall = 2048;

// How every part cuts its share, and what it needs of scratch.
template <typename Kernel>
struct Blocks {
  std::int64_t depth, height, width;
  std::int64_t tall;    // rows that are taken through all of k before others
  std::int64_t values;  // floats of results that are not in c

  Blocks(std::int64_t m, std::int64_t n, std::int64_t k, bool own_values)
      : depth(even_piece(k, Kernel::kDepth, Kernel::kStep)),
        height(even_piece(m, Kernel::kHeight, Kernel::kRows)),
        width(even_piece(n, Kernel::kWidth, Kernel::kColumns)),
        tall(own_values ? (depth >= k ? height : even_piece(m, kTall, height)) : m),
        values(own_values ? tall * width : 0) {}
  std::int64_t packed_rows() const { return round_up(height * depth, 32); }
  std::int64_t packed() const { return packed_rows() + round_up(width * depth, 32); }
  std::size_t bytes() const {
    const auto size = static_cast<std::size_t>(packed()) * sizeof(typename Kernel::Packed) +
                      static_cast<std::size_t>(values) * sizeof(float);
    return (size + 63) / 64 * 64;
  }
};

// Calls body(piece) for pieces of `size`, one after the other.
template <typename Body>
inline void for_pieces(Range whole, std::int64_t size, Body&& body) {
  for (std::int64_t i = whole.begin; i < whole.end; i += size) {
    body(Range{i, i + size < whole.end ? i + size : whole.end});
  }
}

inline void copy_tile(const float* from, std::int64_t from_stride, std::int64_t height,
                      std::int64_t width, float* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < height; ++r) {
    for_lanes(0, width, [&](std::int64_t x, auto lanes) {
      store(to + r * to_stride + x, load(from + r * from_stride + x, lanes), lanes);
    });
  }
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
      alignas(64) float aside[kRows * kColumns] = {};
      const std::int64_t height = i + kRows <= m ? kRows : m - i;
      const std::int64_t width = j + kColumns <= n ? kColumns : n - j;
      if (accumulate) copy_tile(tile, stride, height, width, aside, kColumns);
      Kernel::multiply(depth, a, b, aside, kColumns, accumulate);
      copy_tile(aside, kColumns, height, width, tile, stride);
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
  const Team shares(grid.rows * grid.columns, team.threads);
  auto* const memory =
      static_cast<std::byte*>(scratch.reserve(bytes * static_cast<std::size_t>(shares.threads)));
  on_parts(shares, [&](int part) {
    const Range part_rows = share(m, part / grid.columns, grid.rows, Kernel::kRows);
    const Range part_columns = share(n, part % grid.columns, grid.columns, Kernel::kColumns);
    [[maybe_unused]] const typename Kernel::Thread thread;
    auto* const packed_rows =
        reinterpret_cast<Packed*>(memory + bytes * static_cast<std::size_t>(omp_get_thread_num()));
    Packed* const packed_columns = packed_rows + blocks.packed_rows();
    auto* const own = reinterpret_cast<float*>(packed_rows + blocks.packed());
    detail::for_pieces(part_rows, blocks.tall, [&](Range tall) {
      detail::for_pieces(part_columns, blocks.width, [&](Range columns) {
        detail::for_pieces({0, k}, blocks.depth, [&](Range ks) {
          Kernel::pack_columns(b, columns, ks, packed_columns);
          detail::for_pieces(tall, blocks.height, [&](Range rows) {
            Kernel::pack_rows(a, rows, ks, packed_rows);
            float* const values = c == nullptr ? own + (rows.begin - tall.begin) * blocks.width
                                               : c + rows.begin * n + columns.begin;
            const std::int64_t stride = c == nullptr ? blocks.width : n;
            detail::multiply_block<Kernel>(rows.end - rows.begin, columns.end - columns.begin,
                                           round_up(ks.end - ks.begin, Kernel::kStep), packed_rows,
                                           packed_columns, values, stride,
                                           accumulate || ks.begin > 0);
            if (ks.end == k) finish(rows, columns, values, stride);
          });
        });
      });
    });
  });
}

}  // namespace bert::cpu
