// Sums and maxima over a warp or a block, by a fixed tree: the same bits whatever the timing.
//
// All 32 lanes of the warp, or all threads of the block (one-dimensional, a multiple of 32), call;
// all get the result.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace bert::BERT_CUDA {

// Both lanes of a pair add the same two numbers, so all lanes hold the same bits.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kFullMask, value, offset);
  }
  return value;
}

// NaN is lost unless all are NaN, as fmaxf has it.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kFullMask, value, offset));
  }
  return value;
}

// Several sums over the block at once: one pair of barriers for all. T is float, double, int or
// unsigned.
template <class T, int N>
__device__ __forceinline__ void block_sum(T (&values)[N]) {
  BERT_SHARED(T, partial, 32 * N);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = warp_sum(values[i]);
    if (lane == 0) partial[warp * N + i] = values[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) {
    values[i] = warp_sum(lane < warps ? partial[lane * N + i] : T{0});
  }
  __syncthreads();  // `partial` may be written again
}

template <class T>
__device__ __forceinline__ T block_sum(T value) {
  T values[1] = {value};
  block_sum(values);
  return values[0];
}

__device__ __forceinline__ float block_max(float value) {
  BERT_SHARED(float, partial, 32);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  value = warp_max(value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = warp_max(partial[lane < warps ? lane : 0]);
  __syncthreads();
  return value;
}

}  // namespace bert::BERT_CUDA
