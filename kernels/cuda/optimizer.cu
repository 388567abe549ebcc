// What is done to the flat buffers of all parameters: setting to zero, the gradient's norm, AdamW.
// All are limited by memory.
//
// - zero: 1 byte a byte.
// - gradient_norm: 4 bytes a parameter, 2 FLOPs in f64. A block sums 16,384 gradients, a second
//   launch of one block adds the blocks' sums: the order depends on the number of gradients alone.
// - adamw: 28 bytes a parameter (p, m, v read and written, g read) and 2 more where a bf16 copy is
//   written; about 16 FLOPs. A thread takes four parameters at a time and neighbouring threads
//   neighbouring ones, so that a warp's access is 512 consecutive bytes; as many threads as a
//   multiprocessor has registers for keep memory busy.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

// --- Kernels -------------------------------------------------------------------------------------
constexpr int kThreads = 256;
constexpr int kZeroBlocksPerSm = 8;

// `from` up to the next 16-byte boundary and after the last one: byte by byte.
__global__ void __launch_bounds__(kThreads)
    fill_zero(unsigned char* bytes, std::int64_t head, std::int64_t vectors, std::int64_t tail) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  auto* const aligned = reinterpret_cast<uint4*>(bytes + head);
  for (std::int64_t v = first; v < vectors; v += step) aligned[v] = make_uint4(0, 0, 0, 0);
  if (first < head) bytes[first] = 0;
  if (first < tail) bytes[head + vectors * 16 + first] = 0;
}

constexpr std::int64_t kNormBlock = 16384;  // gradients a block sums
struct NormPart {
  double squares;
  unsigned nonfinite;
};

__device__ __forceinline__ void add_gradient(float g, double& squares, unsigned& nonfinite) {
  const auto wide = static_cast<double>(g);
  squares += wide * wide;
  nonfinite += (__float_as_uint(g) & 0x7f800000u) == 0x7f800000u;  // all exponent bits
}

__global__ void __launch_bounds__(kThreads)
    sum_squares(const float* __restrict__ gradients, std::int64_t n, NormPart* __restrict__ parts) {
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kNormBlock;
  const std::int64_t left = n - begin;
  const int count = static_cast<int>(left < kNormBlock ? left : kNormBlock);
  const float* const mine = gradients + begin;
  double squares[4] = {};  // separate sums: additions in f64 take long, one after another
  unsigned nonfinite = 0;
#pragma unroll 4
  for (int i = 4 * thread; i + 4 <= count; i += 4 * kThreads) {
    float g[4];
    load_floats(mine + i, g);
#pragma unroll
    for (int j = 0; j < 4; ++j) add_gradient(g[j], squares[j], nonfinite);
  }
  const int rest = count % 4;
  if (thread < rest) add_gradient(mine[count - rest + thread], squares[0], nonfinite);
  const double total = block_sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
  nonfinite = block_sum(nonfinite);
  if (thread == 0) parts[blockIdx.x] = {total, nonfinite};
}

// One block.
__global__ void __launch_bounds__(kThreads)
    finish_norm(const NormPart* __restrict__ parts, int count, double max_norm, const double* loss,
                UpdateGate* gate, GradientNorm* result) {
  double squares = 0.0;
  double nonfinite = 0.0;  // exact up to 2^53
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
    squares += parts[i].squares;
    nonfinite += parts[i].nonfinite;
  }
  double sums[2] = {squares, nonfinite};
  block_sum(sums);
  if (threadIdx.x == 0) {
    const double norm = sqrt(sums[0]);
    result->norm = norm;
    result->scale = max_norm > 0.0 && norm > max_norm ? max_norm / norm : 1.0;
    result->nonfinite = static_cast<std::int64_t>(sums[1]);
    result->refused = refuses_update(result->nonfinite, loss, gate);
  }
}

struct AdamWBuffers {
  float* parameters;
  const float* gradients;
  float *m, *v;
  __nv_bfloat16* compute;  // where there are copies
  const std::uint8_t* decays;
  std::int64_t size;
};
struct AdamWConstants {
  double beta1, beta2, epsilon, weight_decay;
};

constexpr int kUpdateBlocksPerSm = 5;

// to[0 .. 3] = values in bf16.
__device__ __forceinline__ void store_copies(__nv_bfloat16* to, const float (&values)[4]) {
  *reinterpret_cast<uint2*>(to) =
      make_uint2(pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]));
}

template <bool kCopies>
__global__ void __launch_bounds__(kThreads, kUpdateBlocksPerSm)
    adamw_update(AdamWBuffers at, AdamWConstants with, const AdamWStep* __restrict__ step,
                 const GradientNorm* __restrict__ norm) {
  constexpr int kN = 4;
  static_assert(AdamW::kBlock % kN == 0);
  if (norm->refused != 0) return;
  // sqrt(v / bc2) + eps = (sqrt(v) + eps * sqrt(bc2)) / sqrt(bc2).
  const double root2 = sqrt(step->bias_correction2);
  const auto scale = static_cast<float>(norm->scale);
  const auto beta1 = static_cast<float>(with.beta1);
  const auto beta2 = static_cast<float>(with.beta2);
  const auto one_minus_beta1 = static_cast<float>(1.0 - with.beta1);
  const auto one_minus_beta2 = static_cast<float>(1.0 - with.beta2);
  const auto rate = static_cast<float>(step->learning_rate * root2 / step->bias_correction1);
  const auto epsilon = static_cast<float>(with.epsilon * root2);
  const auto decay_rate = static_cast<float>(step->learning_rate * with.weight_decay);

  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads * kN;
  for (std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kN; i < at.size;
       i += stride) {
    float p[kN], g[kN], m[kN], v[kN];
    load_floats(at.parameters + i, p);
    load_floats<Reuse::once>(at.gradients + i, g);
    load_floats<Reuse::once>(at.m + i, m);
    load_floats<Reuse::once>(at.v + i, v);
    const float decay = at.decays[i / AdamW::kBlock] != 0 ? decay_rate : 0.0f;
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      const float clipped = g[j] * scale;
      m[j] = beta1 * m[j] + one_minus_beta1 * clipped;
      v[j] = beta2 * v[j] + one_minus_beta2 * (clipped * clipped);
      p[j] -= rate * m[j] / (sqrtf(v[j]) + epsilon) + decay * p[j];
    }
    store_floats<Reuse::once>(at.m + i, m);
    store_floats<Reuse::once>(at.v + i, v);
    store_floats(at.parameters + i, p);
    if constexpr (kCopies) store_copies(at.compute + i, p);
  }
}

// --- Launchers -----------------------------------------------------------------------------------
// Enough blocks for `threads` threads, and at most blocks_per_sm for each multiprocessor.
LaunchShape walking(std::int64_t threads, int multiprocessors, int blocks_per_sm) {
  const std::int64_t blocks = ceil_div(threads, kThreads);
  const std::int64_t most = static_cast<std::int64_t>(multiprocessors) * blocks_per_sm;
  return {.grid = static_cast<unsigned>(blocks < most ? blocks : most), .block = kThreads};
}

void check_aligned(const Tensor& tensor, const char* name) {
  BERT_CHECK(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 16 == 0,
             "{} must begin at a multiple of 16 bytes", name);
}

}  // namespace

void CudaOps::zero(const Tensor& x) {
  const auto bytes = static_cast<std::int64_t>(x.bytes());
  if (!x || bytes == 0) return;
  const auto misaligned = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(x.raw()) % 16);
  const std::int64_t to_aligned = (16 - misaligned) % 16;
  const std::int64_t head = to_aligned < bytes ? to_aligned : bytes;
  const std::int64_t vectors = (bytes - head) / 16, tail = (bytes - head) % 16;
  launch("fill_zero", fill_zero,
         walking(vectors > 0 ? vectors : 1, multiprocessors_, kZeroBlocksPerSm), stream_,
         static_cast<unsigned char*>(x.raw()), head, vectors, tail);
}

void CudaOps::gradient_norm(const ComputeGradientNorm& op) {
  check(op, dtype());
  check_aligned(op.gradients, "gradients");
  const std::int64_t n = op.gradients.numel(), blocks = ceil_div(n, kNormBlock);
  auto* const parts = scratch_.reserve<NormPart>(blocks);
  launch("sum_squares", sum_squares, {.grid = static_cast<unsigned>(blocks), .block = kThreads},
         stream_, op.gradients.data<float>(), n, parts);
  launch("finish_norm", finish_norm, {.grid = 1, .block = kThreads}, stream_, parts,
         static_cast<int>(blocks), op.max_norm, op.loss, op.gate, op.result);
}

void CudaOps::adamw(const AdamW& op) {
  check(op, dtype());
  for (const Tensor* tensor : {&op.parameters, &op.gradients, &op.m, &op.v, &op.compute}) {
    check_aligned(*tensor, "every buffer of adamw");
  }
  const bool copies = static_cast<bool>(op.compute);
  const AdamWBuffers at{.parameters = op.parameters.data<float>(),
                        .gradients = op.gradients.data<float>(),
                        .m = op.m.data<float>(),
                        .v = op.v.data<float>(),
                        .compute = copies ? op.compute.data<__nv_bfloat16>() : nullptr,
                        .decays = op.decays.data<std::uint8_t>(),
                        .size = op.parameters.numel()};
  const AdamWConstants with{
      .beta1 = op.beta1, .beta2 = op.beta2, .epsilon = op.epsilon, .weight_decay = op.weight_decay};
  launch("adamw_update", copies ? adamw_update<true> : adamw_update<false>,
         walking(at.size / 4, multiprocessors_, kUpdateBlocksPerSm), stream_, at, with, op.step,
         op.norm);
}

}  // namespace bert::BERT_CUDA
