// Softmax in the forward kernels of tensor-core attention, for 16 queries of a warp as accumulators
// have them.
//
// With c = log2(e) / sqrt(HS), a row sums p = 2^(c s - b) and p v relative to a base b. Where the
// sum over a lane's keys of one step exceeds 2^16, b is raised to the largest c s, and the sums so
// far are scaled by 2^(old b - b). That is at the first step, where b is minus infinity, and then
// seldom: the usual step needs no maximum, no exchange between lanes and no scaling. p and its sums
// are then at most 2^16 too large, of no consequence in f32 and bf16, whose exponents are wide. At
// the end y / sum is the result and lse = b ln 2 + ln sum. The sum is over P without dropout, in
// f32, before P is rounded to bf16; dropout's 1 / (1 - p) joins the division by it.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace bert::BERT_CUDA {

// The most that a lane's part of a row's sum over a step may be before the row's base is raised.
inline constexpr float kLargestSum = 65536.0f;

// Over the four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kFullMask, x, 1);
  return x + __shfl_xor_sync(kFullMask, x, 2);
}

// p = 2^(log2_scale scores - base), and the sums of this lane's columns, of rows g and g + 8.
template <int kKeyTiles>
__device__ __forceinline__ void exponentials(Accumulators (&p)[kKeyTiles], float (&sums)[2],
                                             const Accumulators (&scores)[kKeyTiles],
                                             const float (&base)[2], float log2_scale) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int k = 0; k < kKeyTiles; ++k) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int j = 2 * i; j < 2 * i + 2; ++j) {
          p[k][h][j] = exp2_approx(fmaf(scores[k][h][j], log2_scale, -base[i]));
        }
        const float pair = p[k][h][2 * i] + p[k][h][2 * i + 1];
        sums[i] = k + h == 0 ? pair : sums[i] + pair;
      }
    }
  }
}

// Raises the bases to the largest of `scores`, where that is more; what was summed before is scaled
// to it. The first base of all, minus infinity, is raised so.
template <int kColumnTiles, int kKeyTiles>
__device__ __forceinline__ void raise_base(Accumulators (&y)[kColumnTiles], float (&bases)[2],
                                           float (&sums)[2],
                                           const Accumulators (&scores)[kKeyTiles],
                                           float log2_scale) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = -INFINITY;
#pragma unroll
    for (int k = 0; k < kKeyTiles; ++k) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        largest = fmaxf(largest, fmaxf(scores[k][h][2 * i], scores[k][h][2 * i + 1]));
      }
    }
    const float base = fmaxf(bases[i], row_max(largest) * log2_scale);
    const float correction = exp2_approx(bases[i] - base);
    bases[i] = base;
    sums[i] *= correction;
#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        y[c][h][2 * i] *= correction;
        y[c][h][2 * i + 1] *= correction;
      }
    }
  }
}

// What 16 queries come to: rows query.. of y and of lse, both of one head of one sequence.
// `staging` is 16 rows of shared memory that only this warp uses.
template <int kHeadSize>
__device__ __forceinline__ void finish_rows(Accumulators (&sums_of_y)[kHeadSize / 16],
                                            const float (&base)[2], const float (&sums)[2],
                                            const AttentionShape& shape, __nv_bfloat16* staging,
                                            __nv_bfloat16* y, float* lse, int query, int length) {
  const int lane = thread_anew() % 32;
  float scale[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = row_sum(sums[i]);
    scale[i] = __fdividef(shape.dropout.scale, sum);
    const int row = query + lane / 4 + 8 * i;
    if (lane % 4 == 0 && row < length) lse[row] = fmaf(base[i], kLn2, logf(sum));
  }
  store_rows<kHeadSize>(sums_of_y, scale, staging, y, shape.y_stride, query, length);
}

}  // namespace bert::BERT_CUDA
