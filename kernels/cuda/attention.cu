// CudaOps::attention_forward and _backward: which kernels serve which head size and dtype.
//
// bf16 with head size 32, 64 or 128 runs on tensor cores: up to the limits in attention.cuh, and
// where shared memory has room, with a whole sequence in a block; beyond, streamed. On Hopper head
// size 64 runs by warpgroups, forward always streamed. Everything else, and all of f32 (whose
// results are to be those of f32 arithmetic), runs the general kernels.
#include <cmath>
#include <limits>

#include "kernels/cuda/attention.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

template <class Op>
AttentionShape shape_of(const Op& op) {
  AttentionShape shape{
      .cu_seqlens = op.tokens.cu_seqlens.template data<std::int32_t>(),
      .sequence_index = op.tokens.sequence_index.template data<std::uint32_t>(),
      .num_tokens = op.tokens.num_tokens,
      .num_sequences = op.tokens.num_sequences,
      .capacity = op.y.rows(),
      .sequences = static_cast<int>(op.tokens.sequence_index.rows()),
      .max_seqlen = static_cast<int>(op.tokens.max_seqlen),
      .heads = static_cast<int>(op.num_heads),
      .head_size = static_cast<int>(op.y.dim(1) / op.num_heads),
      .y_stride = static_cast<int>(op.y.dim(1)),
      .qkv_stride = static_cast<int>(3 * op.y.dim(1)),
  };
  shape.score_scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_size)));
  if (op.dropout.probability > 0.0f) {
    shape.dropout = {.key = op.dropout.key,
                     .site = op.dropout.site,
                     .threshold = dropout_threshold(op.dropout.probability),
                     .scale = static_cast<float>(dropout_scale(op.dropout.probability))};
  }
  return shape;
}

// The tensor-core kernels count the elements of a sequence in 32 bits, and compare dropout bits two
// at a time.
bool tensor_cores_serve(DType dtype, const AttentionShape& shape) {
  return dtype == DType::bf16 && has_mma_attention(shape.head_size) &&
         shape.max_seqlen <= std::numeric_limits<std::int32_t>::max() / shape.qkv_stride &&
         shape.dropout.threshold <= kLargestHalvesThreshold;
}

}  // namespace

void CudaOps::attention_forward(const AttentionForward& op) {
  check(op, dtype());
  const AttentionShape shape = shape_of(op);
  if (tensor_cores_serve(dtype_, shape)) {
    const auto* const qkv = op.qkv.data<__nv_bfloat16>();
    auto* const y = op.y.data<__nv_bfloat16>();
    auto* const lse = op.lse.data<float>();
    if (!attention_forward_warpgroup(shape, qkv, y, lse, stream_) &&
        !attention_forward_mma_resident(shape, qkv, y, lse, stream_)) {
      attention_forward_mma(shape, qkv, y, lse, stream_);
    }
    return;
  }
  with_real([&](auto real) {
    using T = decltype(real);
    attention_forward_general<T>(shape, op.qkv.data<T>(), op.y.data<T>(), op.lse.data<float>(),
                                 stream_);
  });
}

void CudaOps::attention_backward(const AttentionBackward& op) {
  check(op, dtype());
  const AttentionShape shape = shape_of(op);
  float* const delta = scratch_.reserve<float>(op.num_heads * op.y.rows());
  if (tensor_cores_serve(dtype_, shape)) {
    const auto* const dy = op.dy.data<__nv_bfloat16>();
    const auto* const y = op.y.data<__nv_bfloat16>();
    const auto* const qkv = op.qkv.data<__nv_bfloat16>();
    const auto* const lse = op.lse.data<float>();
    auto* const dqkv = op.dqkv.data<__nv_bfloat16>();
    if (!attention_backward_warpgroup_resident(shape, dy, y, qkv, lse, dqkv, stream_) &&
        !attention_backward_warpgroup(shape, dy, y, qkv, lse, delta, dqkv, stream_) &&
        !attention_backward_mma_resident(shape, dy, y, qkv, lse, dqkv, stream_)) {
      attention_backward_mma(shape, dy, y, qkv, lse, delta, dqkv, stream_);
    }
    return;
  }
  with_real([&](auto real) {
    using T = decltype(real);
    attention_backward_general<T>(shape, op.dy.data<T>(), op.y.data<T>(), op.qkv.data<T>(),
                                  op.lse.data<float>(), delta, op.dqkv.data<T>(), stream_);
  });
}

}  // namespace bert::BERT_CUDA
