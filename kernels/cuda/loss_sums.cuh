// What the kernels of losses say of each target, and how that is added up.
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"

namespace bert::BERT_CUDA {

// counted: it has a loss; correct: and the largest logit is its target's.
enum class RowKind : std::int32_t { ignored = -1, counted = 0, correct = 1 };
struct RowResult {
  float loss;
  RowKind kind;
};

// Target i's: one of `results`, and of `losses` unless that is null.
__device__ inline void store_result(RowResult result, std::int64_t i, RowResult* results,
                                    float* losses) {
  results[i] = result;
  if (losses != nullptr) losses[i] = result.loss;
}

// *sums += the first per_row * *rows of `results`, their loss rounded to `loss_unit`
// (CrossEntropy): by one block, in an order that depends on their number alone.
void add_loss_sums(const RowResult* results, DeviceCount rows, int per_row, double loss_unit,
                   LossSums* sums, cudaStream_t stream);

}  // namespace bert::BERT_CUDA
