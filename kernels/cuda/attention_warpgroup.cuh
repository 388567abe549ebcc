// What the warpgroup attention kernels share: where they run, and their tiles in shared memory.
#pragma once

#include "kernels/cuda/warpgroup.cuh"

// In device code for sm_90a only: other kinds of code have these kernels empty, and are not asked
// to run them. BERT_WITH_WARPGROUPS: the build makes such code (CMakeLists.txt).
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define BERT_HAS_WARPGROUPS
#else
#pragma nv_diag_suppress declared_but_not_referenced  // what only their bodies use
#endif

namespace bert::BERT_CUDA {

inline constexpr int kWarpgroupHead = 64;                               // the head size they serve
inline constexpr int kWarpgroupColumnTiles = kWarpgroupHead / 16;       // of 16 columns
inline constexpr int kWarpgroupRows = 64;                               // of a tile
inline constexpr int kWarpgroupTile = kWarpgroupRows * kWarpgroupHead;  // elements

// Whether they are in this build and can take this shape on the current device.
inline bool warpgroups_serve(const AttentionShape& shape) {
#ifdef BERT_WITH_WARPGROUPS
  static const bool device_has_them = [] {  // all devices of a process are alike
    int device = 0, major = 0, minor = 0;
    const auto get = [&](int& value, cudaDeviceAttr attribute) {
      return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess;
    };
    return cudaGetDevice(&device) == cudaSuccess && get(major, cudaDevAttrComputeCapabilityMajor) &&
           get(minor, cudaDevAttrComputeCapabilityMinor) && major == 9 && minor == 0;
  }();
  return device_has_them && shape.head_size == kWarpgroupHead && shape.capacity > 0;
#else
  (void)shape;
  return false;
#endif
}

// Tiles begin at multiples of 1024 bytes: that much more is asked for.
inline constexpr std::size_t kTileAlignment = 1024;
inline constexpr std::size_t warpgroup_shared_bytes(int tiles) {
  return static_cast<std::size_t>(tiles) * kWarpgroupTile * sizeof(__nv_bfloat16) + kTileAlignment;
}
__device__ __forceinline__ __nv_bfloat16* warpgroup_tiles() {
  auto* const memory = dynamic_shared<unsigned char>();
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(memory));
  return reinterpret_cast<__nv_bfloat16*>(memory + (-address & (kTileAlignment - 1)));
}

// By one thread, before a barrier of the block.
__device__ __forceinline__ void begin_barriers(TileBarrier (&arrived)[2]) {
  arrived[0].begin();
  arrived[1].begin();
  warpgroup_operands_written();
}

// Rows `row`.. of a tile become zeros, where rows of another sequence, or of none, have come. By a
// warpgroup; then warpgroup_operands_written() and a barrier.
__device__ __forceinline__ void zero_tile_rows(__nv_bfloat16* tile, int row) {
  constexpr int kChunks = kWarpgroupHead / 8;
  for (int i = row * kChunks + static_cast<int>(threadIdx.x) % kWarpgroup;
       i < kWarpgroupRows * kChunks; i += kWarpgroup) {
    reinterpret_cast<uint4*>(tile)[i] = make_uint4(0, 0, 0, 0);
  }
}

// d [64, 16 kTiles] = a b^T, from 64 rows of a tile of heads and 16 kTiles of another.
template <int kTiles>
__device__ __forceinline__ void multiply_heads(Accumulators (&d)[kTiles], WarpgroupOperand a,
                                               WarpgroupOperand b) {
#pragma unroll
  for (int c = 0; c < kWarpgroupColumnTiles; ++c) {
    warpgroup_mma(d, a + c * kOperandColumns, b + c * kOperandColumns, c > 0);
  }
}

// d = a b^T and e = f g^T as multiply_heads(), both in flight together, and done on return.
template <int kTiles>
__device__ __forceinline__ void multiply_both(Accumulators (&d)[kTiles], WarpgroupOperand a,
                                              WarpgroupOperand b, Accumulators (&e)[kTiles],
                                              WarpgroupOperand f, WarpgroupOperand g) {
  warpgroup_begin();
  multiply_heads(d, a, b);
  multiply_heads(e, f, g);
  warpgroup_commit();
  warpgroup_wait();
  warpgroup_settle(d);
  warpgroup_settle(e);
}

// d [64, 64] += a b: a [64, 16 kTiles] in registers, b that many rows of a tile of heads. Done on
// return.
template <int kTiles>
__device__ __forceinline__ void add_product(Accumulators (&d)[kWarpgroupColumnTiles],
                                            const unsigned (&a)[kTiles][4], WarpgroupOperand b) {
  warpgroup_settle(d);
  warpgroup_begin();
#pragma unroll
  for (int i = 0; i < kTiles; ++i) warpgroup_mma(d, a[i], b + i * kOperandRows);
  warpgroup_commit();
  warpgroup_wait();
  warpgroup_settle(d);
}

}  // namespace bert::BERT_CUDA
