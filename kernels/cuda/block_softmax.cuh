// The softmax of a row that a block shares, in one pass over it (Milakov & Gimelshein 2018).
#pragma once

#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/reduce.cuh"

namespace bert::BERT_CUDA {

// Below all logits; finite, so that differences are no NaN.
inline constexpr float kLowest = -1e30f;

// What a thread saw so far: its largest x, and the sum of 2^(x log2(e) - shift(max)).
struct OnlineSum {
  float max = kLowest, sum = 0.0f;

  // Rounded, and not part of a multiply-add with what it is subtracted from: the same shift must be
  // in all terms, or logits of some hundreds leave a difference of 1e-5 between them.
  __device__ static float shift(float of_max) { return __fmul_rn(of_max, kLog2E); }
  __device__ static float exponent(float x, float shift) { return fmaf(x, kLog2E, -shift); }

  template <int N>
  __device__ void add(const float (&values)[N], float largest) {
    if (largest > max) {
      sum *= exp2_approx(shift(max) - shift(largest));
      max = largest;
    }
    const float by = shift(max);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += exp2_approx(exponent(values[i], by));
  }
};

// The same of all threads of the block. Each of them makes one, at the same point: there are
// barriers in it, so that what any thread read before, all may write after.
struct BlockSoftmax {
  float max, shift, sum;

  __device__ explicit BlockSoftmax(const OnlineSum& seen)
      : max(block_max(seen.max)),
        shift(OnlineSum::shift(max)),
        sum(block_sum(seen.sum * exp2_approx(OnlineSum::shift(seen.max) - shift))) {}

  // -log of x's probability.
  __device__ float loss(float x) const { return logf(sum) - kLn2 * OnlineSum::exponent(x, shift); }
  // x's probability times `scale`, where `factor` is scale / sum.
  __device__ float probability(float x, float factor) const {
    return exp2_approx(OnlineSum::exponent(x, shift)) * factor;
  }
};

}  // namespace bert::BERT_CUDA
