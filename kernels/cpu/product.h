// Products of large matrices on the CPU, as Goto & van de Geijn 2008 ("Anatomy of high-performance
// matrix multiplication") lay them out: both factors are copied in blocks that fit in a core's
// caches, into panels that a small kernel reads in a straight line while a tile of the result stays
// in registers. The kernels, and which of them multiplies what, are in product_kernels.h.
//
// Every element of the result is a sum over k in one order, in blocks that depend on k alone: how
// the work is shared out among threads decides nothing.
//
// The functions for products, here, in dot_products.h and in product_kernels.h, compute [m, n], the
// left factor times the right one, k > 0. The result is written to c [m, n], or added to it with
// `accumulate`; where c is null (then nothing accumulates), it is in memory of the function's own,
// block by block. finish(rows, columns, values, stride) is called once for each block when it is
// complete, by the thread that made it; its first element, (rows.begin, columns.begin), is
// values[0]. Not from inside a parallel region.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>

#include <omp.h>
#include <sched.h>

#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/transpose.h"

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
//   kRowsInPlace       whether it reads the left factor where it is, k along memory; such a kernel
//                      is for few rows only
//   pack_rows(factor, lines, depth, to), pack_columns(...)   copies a range of lines and of k
//   multiply(depth, rows, rows_stride, columns, c, stride, accumulate)   one tile
//   Thread             what a thread holds while it multiplies
// A packed range takes round_up(lines, tile) * round_up(depth, kStep) elements of Packed.

inline std::int64_t divide_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

// Of `n` cut into the fewest pieces of at most `limit`: the size of a piece, a multiple of `grain`.
inline std::int64_t even_piece(std::int64_t n, std::int64_t limit, std::int64_t grain) {
  return round_up(divide_up(n, divide_up(n, limit)), grain);
}
// Piece `index` of a range in pieces of `size`; empty beyond the last.
inline Range piece_of(Range whole, std::int64_t size, std::int64_t index) {
  const std::int64_t begin = whole.begin + index * size, end = begin + size;
  return {begin < whole.end ? begin : whole.end, end < whole.end ? end : whole.end};
}

// How much of k its copies have.
template <typename Kernel>
std::int64_t depth_of(Range ks) {
  return round_up(ks.end - ks.begin, Kernel::kStep);
}

// Rows whose sums wait in scratch for the rest of k, at most (and a block more): a few MB.
inline constexpr std::int64_t kTall = 2048;
// Of a step, for each thread: so many that none waits long for a slower one.
inline constexpr std::int64_t kTasks = 4;

// How a product is cut. A step is a block of the right factor, `depth` of k by `width` columns,
// which all threads copy and then multiply with `tall` rows; a task is to copy `lines` of its
// columns, or to multiply it with `height` rows, or only `piece` of its columns.
template <typename Kernel>
struct Blocks {
  std::int64_t depth, width, lines, tall, height, piece;
  std::int64_t copies, across, down;  // tasks of a step: copies, and across x down products
  std::int64_t steps;

  Blocks(std::int64_t m, std::int64_t n, std::int64_t k, int threads, bool own_values)
      : depth(even_piece(k, Kernel::kDepth, Kernel::kStep)),
        width(even_piece(n, Kernel::kWidth, Kernel::kColumns)) {
    const std::int64_t tasks = threads == 1 ? 1 : kTasks * threads;
    lines = even_piece(width, divide_up(width, tasks), Kernel::kColumns);
    height = even_piece(m, std::clamp(m / tasks, Kernel::kRows, Kernel::kHeight), Kernel::kRows);
    tall = own_values ? even_piece(m, kTall, height) : m;
    down = divide_up(tall, height);
    piece = even_piece(width, divide_up(width * down, tasks), Kernel::kColumns);
    across = divide_up(width, piece);
    copies = divide_up(width, lines);
    steps = divide_up(m, tall) * divide_up(n, width) * divide_up(k, depth);
  }
};

inline void copy_tile(const float* from, std::int64_t from_stride, std::int64_t height,
                      std::int64_t width, float* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < height; ++r) {
    for_lanes(0, width, [&](std::int64_t x, auto lanes) {
      store(to + r * to_stride + x, load(from + r * from_stride + x, lanes), lanes);
    });
  }
}

// Asks for rows: the processor does not see by itself that they come next.
inline void prefetch_rows(const float* rows, std::int64_t stride, std::int64_t count,
                          std::int64_t depth) {
  constexpr std::int64_t kLine = 64 / sizeof(float);
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t p = 0; p < depth; p += kLine) __builtin_prefetch(rows + r * stride + p, 0, 2);
  }
}

// One block of the result: tiles down and across it. Tiles that reach beyond it are computed aside.
// Rows of the left factor are `rows_stride` apart in memory, or on average in panels.
template <typename Kernel>
void multiply_block(std::int64_t m, std::int64_t n, std::int64_t depth,
                    const typename Kernel::Packed* rows, std::int64_t rows_stride,
                    const typename Kernel::Packed* columns, float* c, std::int64_t stride,
                    bool accumulate) {
  constexpr std::int64_t kRows = Kernel::kRows, kColumns = Kernel::kColumns;
  for (std::int64_t j = 0; j < n; j += kColumns) {
    for (std::int64_t i = 0; i < m; i += kRows) {
      const auto* a = rows + i * rows_stride;
      if constexpr (Kernel::kRowsInPlace) {
        if (const std::int64_t next = i + kRows; j == 0 && next < m) {
          prefetch_rows(rows + next * rows_stride, rows_stride, std::min(kRows, m - next), depth);
        }
      }
      const auto* const b = columns + j * depth;
      float* tile = c + i * stride + j;
      if (i + kRows <= m && j + kColumns <= n) {
        Kernel::multiply(depth, a, rows_stride, b, tile, stride, accumulate);
        continue;
      }
      alignas(64) float aside[kRows * kColumns] = {};
      const std::int64_t height = i + kRows <= m ? kRows : m - i;
      const std::int64_t width = j + kColumns <= n ? kColumns : n - j;
      if (accumulate) copy_tile(tile, stride, height, width, aside, kColumns);
      std::int64_t a_stride = rows_stride;
      [[maybe_unused]]
      typename Kernel::Packed copy[Kernel::kRowsInPlace ? kRows * Kernel::kDepth : 1];
      if constexpr (Kernel::kRowsInPlace) {
        if (height < kRows) {  // there may be no memory beyond the last row
          std::fill(std::begin(copy), std::end(copy), 0.0f);
          copy_tile(a, rows_stride, height, depth, copy, depth);
          a = copy;
          a_stride = depth;
        }
      }
      Kernel::multiply(depth, a, a_stride, b, aside, kColumns, accumulate);
      copy_tile(aside, kColumns, height, width, tile, stride);
    }
  }
}

// Numbers that only grow, by which threads know what the others have done.
class Counter {
 public:
  explicit Counter(std::int32_t* value) : value_(*value) {}
  // What it was. Wakes nobody.
  std::int32_t take_one() { return value_.fetch_add(1, std::memory_order_relaxed); }
  void add_one() {
    value_.fetch_add(1, std::memory_order_acq_rel);
    value_.notify_all();
  }
  // Spins a little, as the wait is mostly short, then sleeps.
  void wait_for(std::int64_t least) const {
    constexpr int kSpins = 100;
    for (int i = 0;; ++i) {
      const std::int32_t seen = value_.load(std::memory_order_acquire);
      if (seen >= least) return;
      if (i < kSpins) {
        ::sched_yield();
      } else {
        value_.wait(seen, std::memory_order_acquire);
      }
    }
  }

 private:
  std::atomic_ref<std::int32_t> value_;
};

// The product, where threads share what they copy of the right factor.
//
// Threads take tasks in one order, whoever is free the next: the copies of step 0, its products,
// the copies of step 1, ... A task waits for those before it that it needs: a copy, for the
// products of the step before the last, whose place it takes; a product, for the step's copies, and
// for the same tile of the step before. So a thread that something else slows down does less, and
// the others wait for it by a task at most.
template <typename Kernel, typename Finish>
void product_by_steps(int threads, Scratch& scratch, std::int64_t m, std::int64_t n, std::int64_t k,
                      Factor<typename Kernel::Element> a, Factor<typename Kernel::Element> b,
                      bool accumulate, float* c, Finish&& finish) {
  static_assert(!Kernel::kRowsInPlace, "copies both factors");
  using Packed = typename Kernel::Packed;
  const Blocks<Kernel> blocks(m, n, k, threads, c == nullptr);
  const std::int64_t products = blocks.down * blocks.across;

  // Scratch: the right factor's blocks of two steps, a block of the left one for each thread,
  // results that are not in c, and counters.
  const std::int64_t right_size = round_up(blocks.width * blocks.depth, 32);
  const std::int64_t left_size = round_up(blocks.height * blocks.depth, 32);
  const auto packed_bytes =
      round_up((2 * right_size + threads * left_size) * std::int64_t{sizeof(Packed)}, 64);
  const std::int64_t values_size = c == nullptr ? blocks.tall * blocks.width : 0;
  constexpr std::int64_t kLine = 16;  // the one that all count on has a cache line to itself
  const std::int64_t counters = kLine + 2 * blocks.steps + products;
  auto* const memory = static_cast<std::byte*>(scratch.reserve(
      static_cast<std::size_t>(packed_bytes + round_up(values_size, 16) * 4 + counters * 4)));
  auto* const right = reinterpret_cast<Packed*>(memory);
  auto* const left = right + 2 * right_size;
  auto* const own = reinterpret_cast<float*>(memory + packed_bytes);
  auto* const next = reinterpret_cast<std::int32_t*>(own + round_up(values_size, 16));
  std::int32_t *const copied = next + kLine, *const multiplied = copied + blocks.steps,
                      *const tiles = multiplied + blocks.steps;
  std::memset(next, 0, static_cast<std::size_t>(counters) * sizeof(std::int32_t));

  const auto work = [&](int thread) {
    const FlushDenormals flush;
    [[maybe_unused]] const typename Kernel::Thread instructions;
    const std::int64_t widths = divide_up(n, blocks.width);
    const std::int64_t depths = divide_up(k, blocks.depth);
    for (;;) {
      const std::int64_t task = Counter(next).take_one();
      const std::int64_t step = task / (blocks.copies + products);
      std::int64_t index = task % (blocks.copies + products);
      if (step >= blocks.steps) return;
      const Range tall = piece_of({0, m}, blocks.tall, step / (widths * depths));
      const Range columns = piece_of({0, n}, blocks.width, step / depths % widths);
      const Range ks = piece_of({0, k}, blocks.depth, step % depths);
      const std::int64_t depth = depth_of<Kernel>(ks);
      Packed* const packed_columns = right + step % 2 * right_size;
      if (index < blocks.copies) {
        if (step >= 2) Counter(multiplied + step - 2).wait_for(products);
        const Range lines = piece_of(columns, blocks.lines, index);
        Kernel::pack_columns(b, lines, ks, packed_columns + (lines.begin - columns.begin) * depth);
        Counter(copied + step).add_one();
        continue;
      }
      index -= blocks.copies;
      const Range rows = piece_of(tall, blocks.height, index / blocks.across);
      const Range piece = piece_of(columns, blocks.piece, index % blocks.across);
      Counter(copied + step).wait_for(blocks.copies);
      Counter(tiles + index).wait_for(step);
      if (rows.begin < rows.end && piece.begin < piece.end) {
        Packed* const packed_rows = left + thread * left_size;
        Kernel::pack_rows(a, rows, ks, packed_rows);
        float* const values = c == nullptr ? own + (rows.begin - tall.begin) * blocks.width +
                                                 (piece.begin - columns.begin)
                                           : c + rows.begin * n + piece.begin;
        const std::int64_t stride = c == nullptr ? blocks.width : n;
        multiply_block<Kernel>(rows.end - rows.begin, piece.end - piece.begin, depth, packed_rows,
                               depth, packed_columns + (piece.begin - columns.begin) * depth,
                               values, stride, accumulate || ks.begin > 0);
        if (ks.end == k) finish(rows, piece, values, stride);
      }
      Counter(tiles + index).add_one();
      Counter(multiplied + step).add_one();
    }
  };
  if (threads == 1) {
    work(0);
    return;
  }
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num());
}

// The product of few rows with a right factor whose lines run along memory, where copying that is
// much of the work. So its columns become the rows of a transposed product: each is read by the one
// thread that multiplies it, over all of k. Each thread copies the few rows for itself, as fetching
// what another core has just written took as long (measured with two of them). What comes out is
// turned round in strips.
template <typename Kernel, typename Finish>
void product_of_few_rows(int threads, Scratch& scratch, std::int64_t m, std::int64_t n,
                         std::int64_t k, Factor<typename Kernel::Element> a,
                         Factor<typename Kernel::Element> b, bool accumulate, float* c,
                         Finish&& finish) {
  using Packed = typename Kernel::Packed;
  // A task is to multiply `height` columns of the right factor with all rows.
  const std::int64_t depth = even_piece(k, Kernel::kDepth, Kernel::kStep);
  const std::int64_t width = round_up(m, Kernel::kColumns);
  const std::int64_t height = even_piece(
      n, std::clamp(n / (kTasks * threads), Kernel::kRows, Kernel::kHeight), Kernel::kRows);

  // A thread's scratch: all rows, a block of columns and its results.
  const std::int64_t rows_size = divide_up(k, depth) * depth * width;
  const std::int64_t columns_size = Kernel::kRowsInPlace ? 0 : height * depth;
  const std::int64_t packed_bytes =
      round_up((rows_size + columns_size) * std::int64_t{sizeof(Packed)}, 64);
  const std::int64_t bytes = round_up(packed_bytes + height * width * 4, 64);
  auto* const memory =
      static_cast<std::byte*>(scratch.reserve(static_cast<std::size_t>(threads * bytes)));

  const auto write_transposed = [&](Range columns, const float* values) {
    constexpr std::int64_t kStrip = round_up(Kernel::kHeight, kLanes);
    alignas(64) float strip[kLanes * kStrip];
    for_lanes(0, m, [&](std::int64_t row, auto lanes) {
      const Range rows{row, row + lane_count(lanes)};
      for (std::int64_t column = columns.begin; column < columns.end; column += kLanes) {
        F32 lines[kLanes];
        load_transposed(values + (column - columns.begin) * width + row, width,
                        columns.end - column, lanes, lines);
        for (int i = 0; i < lane_count(lanes); ++i) {
          store(strip + i * kStrip + (column - columns.begin), lines[i]);
        }
      }
      if (c == nullptr) {
        finish(rows, columns, strip, kStrip);
        return;
      }
      float* const to = c + row * n + columns.begin;
      for (int i = 0; i < lane_count(lanes); ++i) {
        for_lanes(0, columns.end - columns.begin, [&](std::int64_t x, auto few) {
          const F32 v = load(strip + i * kStrip + x, few);
          store(to + i * n + x, accumulate ? load(to + i * n + x, few) + v : v, few);
        });
      }
      finish(rows, columns, to, n);
    });
  };

#pragma omp parallel num_threads(threads)
  {
    const FlushDenormals flush;
    [[maybe_unused]] const typename Kernel::Thread instructions;
    std::byte* const own = memory + omp_get_thread_num() * bytes;
    auto* const rows = reinterpret_cast<Packed*>(own);
    auto* const values = reinterpret_cast<float*>(own + packed_bytes);
    bool copied = false;  // a thread without a task need not
#pragma omp for schedule(dynamic, 1) nowait
    for (std::int64_t first = 0; first < n; first += height) {
      for (std::int64_t p = 0; !copied && p < k; p += depth) {
        Kernel::pack_columns(a, {0, m}, {p, std::min(p + depth, k)}, rows + p * width);
      }
      copied = true;
      const Range columns{first, std::min(first + height, n)};
      for (std::int64_t p = 0; p < k; p += depth) {
        const Range ks{p, std::min(p + depth, k)};
        const Packed* lines = rows + rows_size;
        std::int64_t stride = depth_of<Kernel>(ks);
        if constexpr (Kernel::kRowsInPlace) {
          lines = b.data + first * b.stride + p;
          stride = b.stride;
        } else {
          Kernel::pack_rows(b, columns, ks, rows + rows_size);
        }
        multiply_block<Kernel>(columns.end - first, width, depth_of<Kernel>(ks), lines, stride,
                               rows + p * width, values, width, p > 0);
      }
      write_transposed(columns, values);
    }
  }
}

}  // namespace bert::cpu
