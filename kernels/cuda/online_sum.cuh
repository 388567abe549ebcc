// The sum of a softmax in one pass (Milakov & Gimelshein 2018).
#pragma once

#include "kernels/cuda/intrinsics.cuh"

namespace bert::BERT_CUDA {

// Below all logits; finite, so that differences are no NaN.
inline constexpr float kLowest = -1e30f;

// sum of 2^(x log2(e) - shift(max)) over what was seen so far.
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

}  // namespace bert::BERT_CUDA
