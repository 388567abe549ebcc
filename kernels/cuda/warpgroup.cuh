// Products of warpgroups (wgmma, PTX ISA "Asynchronous Warpgroup Level Matrix Instructions"), which
// sm_90a alone has: four warps together multiply matrices straight from shared memory. Not emulated
// by the SIMT harness; the kernels that use them have siblings that it runs.
//
// Warp w of the four has rows 16 w to 16 w + 15 of d, as accumulators of mma.m16n8k16, and so of an
// operand a in registers. Operands in shared memory are tiles as MmaTile<64> lays them out: rows of
// 64 bf16 (128 bytes) whose 16-byte chunks are exclusively or-ed with the row modulo 8, which is
// what wgmma calls a swizzle of 128 bytes; tiles begin at multiples of 1024 bytes.
//
// Tiles come from global memory by the tensor memory accelerator (PTX ISA "cp.async.bulk.tensor"):
// one thread asks for 64 rows, all wait for them on a barrier in shared memory. What threads write
// to shared memory themselves, products see after warpgroup_operands_written() by the threads that
// wrote, and a barrier.
//
// Order: warpgroup_begin(), products, warpgroup_commit(), warpgroup_wait(). In between neither
// their accumulators nor operands in registers are touched.
#pragma once

#include <cuda.h>  // CUtensorMap

#include "kernels/cuda/attention_mma.cuh"

namespace bert::BERT_CUDA {

inline constexpr int kWarpgroup = 128;  // threads

// --- Tiles from global memory --------------------------------------------------------------------
// A matrix of bf16, of which 64 rows of 64 columns are a tile.
using TileSource = CUtensorMap;
// x [rows, columns], whose rows are contiguous. RuntimeError when the driver refuses.
TileSource tile_source(const __nv_bfloat16* x, std::int64_t rows, std::int64_t columns);

// Counts arrivals in shared memory: of one thread, which says how many bytes will come, and of
// these. It is waited for again and again; `times` is how often it was before.
class TileBarrier {
 public:
  // One thread, before all others use it; then warpgroup_operands_written() and a barrier.
  __device__ void begin() {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address()) : "memory");
  }
  __device__ void expect_tiles(int tiles) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()),
                 "r"(tiles * 64 * 64 * static_cast<int>(sizeof(__nv_bfloat16)))
                 : "memory");
  }
  // A tile from row `row` and column `column` on; zeros beyond the matrix.
  __device__ void load(__nv_bfloat16* tile, const TileSource& source, int row, int column) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(tile))),
        "l"(&source), "r"(column), "r"(row), "r"(address())
        : "memory");
  }
  __device__ void wait(int times) {
    asm volatile(
        "{.reg .pred p;\n"
        "wait_%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
        "@!p bra wait_%=;}" ::"r"(address()),
        "r"(times % 2)
        : "memory");
  }

 private:
  __device__ unsigned address() const {
    return static_cast<unsigned>(__cvta_generic_to_shared(&state_));
  }
  std::uint64_t state_;
};

// --- Products ------------------------------------------------------------------------------------
__device__ __forceinline__ void warpgroup_operands_written() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void warpgroup_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void warpgroup_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// For all products.
__device__ __forceinline__ void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}
// The compiler takes what products leave in registers to be there from the instruction on, and what
// they read from registers to be free after it; this keeps it from using either before the wait.
template <int kTiles>
__device__ __forceinline__ void warpgroup_settle(Accumulators (&d)[kTiles]) {
#pragma unroll
  for (int c = 0; c < kTiles; ++c) {
#pragma unroll
    for (int e = 0; e < 8; ++e) asm volatile("" : "+f"(element(d[c], e))::"memory");
  }
}

// What products know of a tile by: the lower word has where it begins, in units of 16 bytes; the
// upper, the same for all, that its groups of eight rows are 1024 bytes apart and what is
// exclusively or-ed. Elsewhere in the tile is a sum: 16 columns on (kOperandColumns, within the
// 64), 16 rows on (kOperandRows), a tile on (kOperandTile).
using WarpgroupOperand = unsigned;
inline constexpr WarpgroupOperand kOperandColumns = 16 * sizeof(__nv_bfloat16) >> 4;
inline constexpr WarpgroupOperand kOperandRows = 16 * 64 * sizeof(__nv_bfloat16) >> 4;
inline constexpr WarpgroupOperand kOperandTile = 4 * kOperandRows;
// `tile` is the same for all lanes of the warp.
__device__ __forceinline__ WarpgroupOperand warpgroup_operand(const __nv_bfloat16* tile) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(tile));
  constexpr unsigned kLeading = 1u << 16;  // of no consequence for 64 columns
  // From one lane, for the compiler to see that it is the same in all: it then counts in registers
  // of the warp, as the instruction wants it.
  return __shfl_sync(kFullMask, (address & 0x3ffff) >> 4 | kLeading, 0);
}
namespace detail {
__device__ __forceinline__ std::uint64_t descriptor(WarpgroupOperand operand) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kGroups = std::uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kGroups | operand;
}
}  // namespace detail

namespace detail {
// d (+)= a b^T, or a^T b of transposed operands.
template <int kTransposed>
__device__ __forceinline__ void multiply(Accumulators (&d)[2], WarpgroupOperand a,
                                         WarpgroupOperand b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, "
      "%9, %10, %11, %12, %13, %14, %15}, "
      "%16, %17, p, 1, 1, %19, %19;}"
      : "+f"(d[0][0][0]), "+f"(d[0][0][1]), "+f"(d[0][0][2]), "+f"(d[0][0][3]), "+f"(d[0][1][0]),
        "+f"(d[0][1][1]), "+f"(d[0][1][2]), "+f"(d[0][1][3]), "+f"(d[1][0][0]), "+f"(d[1][0][1]),
        "+f"(d[1][0][2]), "+f"(d[1][0][3]), "+f"(d[1][1][0]), "+f"(d[1][1][1]), "+f"(d[1][1][2]),
        "+f"(d[1][1][3])
      : "l"(descriptor(a)), "l"(descriptor(b)), "r"(int{accumulate}), "n"(kTransposed));
}
template <int kTransposed>
__device__ __forceinline__ void multiply(Accumulators (&d)[4], WarpgroupOperand a,
                                         WarpgroupOperand b, bool accumulate) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, "
      "%9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, "
      "%27, %28, %29, %30, %31}, "
      "%32, %33, p, 1, 1, %35, %35;}"
      : "+f"(d[0][0][0]), "+f"(d[0][0][1]), "+f"(d[0][0][2]), "+f"(d[0][0][3]), "+f"(d[0][1][0]),
        "+f"(d[0][1][1]), "+f"(d[0][1][2]), "+f"(d[0][1][3]), "+f"(d[1][0][0]), "+f"(d[1][0][1]),
        "+f"(d[1][0][2]), "+f"(d[1][0][3]), "+f"(d[1][1][0]), "+f"(d[1][1][1]), "+f"(d[1][1][2]),
        "+f"(d[1][1][3]), "+f"(d[2][0][0]), "+f"(d[2][0][1]), "+f"(d[2][0][2]), "+f"(d[2][0][3]),
        "+f"(d[2][1][0]), "+f"(d[2][1][1]), "+f"(d[2][1][2]), "+f"(d[2][1][3]), "+f"(d[3][0][0]),
        "+f"(d[3][0][1]), "+f"(d[3][0][2]), "+f"(d[3][0][3]), "+f"(d[3][1][0]), "+f"(d[3][1][1]),
        "+f"(d[3][1][2]), "+f"(d[3][1][3])
      : "l"(descriptor(a)), "l"(descriptor(b)), "r"(int{accumulate}), "n"(kTransposed));
}
}  // namespace detail

// d [64, 16 kTiles] (+)= a b^T, from 64 rows of a and 16 kTiles of b, both with 16 columns of their
// tiles; kTiles is 2 or 4.
template <int kTiles>
__device__ __forceinline__ void warpgroup_mma(Accumulators (&d)[kTiles], WarpgroupOperand a,
                                              WarpgroupOperand b, bool accumulate) {
  detail::multiply<0>(d, a, b, accumulate);
}
// d [64, 16 kTiles] += a^T b, from 64 columns of a and 16 kTiles of b, both with 16 rows of their
// tiles.
template <int kTiles>
__device__ __forceinline__ void warpgroup_mma_transposed(Accumulators (&d)[kTiles],
                                                         WarpgroupOperand a, WarpgroupOperand b) {
  detail::multiply<1>(d, a, b, true);
}
// d [64, 64] += a b, a [64, 16] in the registers of its warps, b 16 rows of a tile.
__device__ __forceinline__ void warpgroup_mma(Accumulators (&d)[4], const unsigned (&a)[4],
                                              WarpgroupOperand b) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, 1, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7, %8, "
      "%9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, "
      "%27, %28, %29, %30, %31}, "
      "{%32, %33, %34, %35}, %36, p, 1, 1, 1;}"
      : "+f"(d[0][0][0]), "+f"(d[0][0][1]), "+f"(d[0][0][2]), "+f"(d[0][0][3]), "+f"(d[0][1][0]),
        "+f"(d[0][1][1]), "+f"(d[0][1][2]), "+f"(d[0][1][3]), "+f"(d[1][0][0]), "+f"(d[1][0][1]),
        "+f"(d[1][0][2]), "+f"(d[1][0][3]), "+f"(d[1][1][0]), "+f"(d[1][1][1]), "+f"(d[1][1][2]),
        "+f"(d[1][1][3]), "+f"(d[2][0][0]), "+f"(d[2][0][1]), "+f"(d[2][0][2]), "+f"(d[2][0][3]),
        "+f"(d[2][1][0]), "+f"(d[2][1][1]), "+f"(d[2][1][2]), "+f"(d[2][1][3]), "+f"(d[3][0][0]),
        "+f"(d[3][0][1]), "+f"(d[3][0][2]), "+f"(d[3][0][3]), "+f"(d[3][1][0]), "+f"(d[3][1][1]),
        "+f"(d[3][1][2]), "+f"(d[3][1][3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(detail::descriptor(b)));
}

}  // namespace bert::BERT_CUDA
