// f32 to bf16 and back, for what travels between GPUs in half the bytes.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/cuda/launch.cuh"

namespace bert::BERT_CUDA {

// `count` elements, a multiple of 8; both 16-byte aligned. Rounds to nearest, ties to even.
void narrow_to_bfloat16(const float* from, void* to, std::int64_t count, cudaStream_t stream);
void widen_from_bfloat16(const void* from, float* to, std::int64_t count, cudaStream_t stream);

}  // namespace bert::BERT_CUDA
