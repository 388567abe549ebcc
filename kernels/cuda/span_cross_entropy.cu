// Softmax cross-entropy down two columns, within each sequence. A token's two logits are read and,
// with a gradient, written: 8 bytes a token in bf16, where there is no padding, and 2 exponentials
// for each logit. Little enough that a launch is what it costs.
//
// A block per sequence and column, a thread per token (and every 128th after it). The second pass
// reads the column again: it is in the L1 cache. The losses are added up by a second launch
// (loss_sums.cuh).
#include "kernels/cuda/block_softmax.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/loss_sums.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kThreads = 128;

// What is no column of a sequence's: tail rows, and the columns after the second. All blocks share
// them.
template <class T>
__device__ void zero_padding(T* logits, std::int64_t tokens, std::int64_t capacity, int columns) {
  const std::int64_t block = std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  const std::int64_t threads = std::int64_t{gridDim.x} * gridDim.y * kThreads;
  for (std::int64_t t = block * kThreads + threadIdx.x; t < capacity; t += threads) {
    for (int c = t < tokens ? 2 : 0; c < columns; ++c) {
      logits[t * columns + c] = from_float<T>(0.0f);
    }
  }
}

// grid: (B, 2). logits [T, columns]; results [B, 2]; target_loss [B, 2] or null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    span_cross_entropy_kernel(T* __restrict__ logits, const std::int32_t* __restrict__ cu_seqlens,
                              DeviceCount num_tokens, DeviceCount num_sequences,
                              const std::int32_t* __restrict__ targets,
                              const double* __restrict__ loss_scale,
                              RowResult* __restrict__ results, float* __restrict__ target_loss,
                              std::int64_t capacity, int columns) {
  const int sequence = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int i = 2 * sequence + static_cast<int>(blockIdx.y);
  const bool valid = sequence < *num_sequences;
  if (loss_scale != nullptr) zero_padding(logits, *num_tokens, capacity, columns);
  const std::int64_t first = valid ? cu_seqlens[sequence] : 0;
  const int length = valid ? static_cast<int>(cu_seqlens[sequence + 1] - first) : 0;
  const auto logit = [&](int t) -> T& { return logits[(first + t) * columns + blockIdx.y]; };
  // The same for all threads of the block.
  const std::int32_t target = valid ? targets[i] : kIgnoreIndex;
  if (target == kIgnoreIndex) {
    for (int t = thread; loss_scale != nullptr && t < length; t += kThreads) {
      logit(t) = from_float<T>(0.0f);
    }
    if (thread == 0) store_result({0.0f, RowKind::ignored}, i, results, target_loss);
    return;
  }

  const float target_logit = to_float(logit(target));
  OnlineSum online;
  bool preceded = false;  // the target is not the first of equals
  for (int t = thread; t < length; t += kThreads) {
    const float x[1] = {to_float(logit(t))};
    online.add(x, x[0]);
    preceded |= x[0] == target_logit && t < target;
  }
  const BlockSoftmax softmax(online);
  const bool correct = !__syncthreads_or(preceded) && target_logit == softmax.max;
  if (thread == 0) {
    store_result({softmax.loss(target_logit), correct ? RowKind::correct : RowKind::counted}, i,
                 results, target_loss);
  }
  if (loss_scale == nullptr) return;
  const auto scale = static_cast<float>(*loss_scale);
  const float factor = scale / softmax.sum;
  for (int t = thread; t < length; t += kThreads) {
    const float p = softmax.probability(to_float(logit(t)), factor);
    logit(t) = from_float<T>(p - (t == target ? scale : 0.0f));
  }
}

}  // namespace

void CudaOps::span_cross_entropy(const SpanCrossEntropy& op) {
  check(op, dtype());
  const std::int64_t sequences = op.tokens.sequence_index.rows();
  auto* const results = scratch_.reserve<RowResult>(2 * sequences);
  with_real([&](auto real) {
    using T = decltype(real);
    launch("span_cross_entropy_kernel", span_cross_entropy_kernel<T>,
           {.grid = dim3(static_cast<unsigned>(sequences), 2), .block = kThreads}, stream_,
           op.logits.data<T>(), op.tokens.cu_seqlens.data<std::int32_t>(), op.tokens.num_tokens,
           op.tokens.num_sequences, op.targets.data<std::int32_t>(), op.loss_scale, results,
           op.target_loss ? op.target_loss.data<float>() : nullptr, op.logits.rows(),
           static_cast<int>(op.logits.dim(1)));
  });
  add_loss_sums(results, op.tokens.num_sequences, 2, op.loss_unit, op.sums, stream_);
}

}  // namespace bert::BERT_CUDA
