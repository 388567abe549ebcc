// The gradient's norm (4 bytes a parameter) and AdamW (28 bytes a parameter, in bf16 30), each in
// one pass.
#include <cmath>
#include <type_traits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"

namespace bert::cpu {
namespace {

// Half as many lanes as F32: a register of the same width.
typedef double F64 __attribute__((vector_size(kLanes * 4)));
typedef float HalfF32 __attribute__((vector_size(kLanes * 2)));

struct BlockNorm {
  double squares = 0.0;
  std::int64_t nonfinite = 0;
};

BlockNorm block_norm(const float* g, std::int64_t n) {
  F64 squares[2] = {};
  I32 nonfinite{};
  for_lanes(0, n, [&](std::int64_t i, auto lanes) {
    const F32 v = load(g + i, lanes);
    HalfF32 halves[2];
    std::memcpy(halves, &v, sizeof v);
    const F64 low = __builtin_convertvector(halves[0], F64);
    const F64 high = __builtin_convertvector(halves[1], F64);
    squares[0] += low * low;
    squares[1] += high * high;
    // All exponent bits set: infinite or NaN. A comparison is -1 where it holds.
    nonfinite -=
        (bit_cast<I32>(v) & splat(std::int32_t{0x7F800000})) == splat(std::int32_t{0x7F800000});
  });
  const F64 total = squares[0] + squares[1];
  BlockNorm result;
  for (int i = 0; i < kLanes / 2; ++i) result.squares += total[i];
  for (int i = 0; i < kLanes; ++i) result.nonfinite += nonfinite[i];
  return result;
}

F32 square_root(F32 x) {
#if defined(__AVX512F__)
  return bit_cast<F32>(_mm512_sqrt_ps(bit_cast<__m512>(x)));
#elif defined(__AVX2__)
  return bit_cast<F32>(_mm256_sqrt_ps(bit_cast<__m256>(x)));
#else
  for (int i = 0; i < kLanes; ++i) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

}  // namespace

void CpuOpsBase::gradient_norm(const ComputeGradientNorm& op) {
  check(op, dtype());
  constexpr std::int64_t kSumBlock = 8192;
  const std::int64_t n = op.gradients.numel(), blocks = (n + kSumBlock - 1) / kSumBlock;
  const float* g = op.gradients.data<float>();
  auto* sums = scratch_.reserve_as<BlockNorm>(blocks);
  on_parts(team_, [&](int part) {
    const Range range = share(blocks, part, team_.parts);
    for (std::int64_t b = range.begin; b < range.end; ++b) {
      const std::int64_t begin = b * kSumBlock;
      sums[b] = block_norm(g + begin, n - begin < kSumBlock ? n - begin : kSumBlock);
    }
  });
  double squares = 0.0;
  std::int64_t nonfinite = 0;
  for (std::int64_t b = 0; b < blocks; ++b) {
    squares += sums[b].squares;
    nonfinite += sums[b].nonfinite;
  }
  op.result->norm = std::sqrt(squares);
  op.result->scale =
      op.max_norm > 0.0 && op.result->norm > op.max_norm ? op.max_norm / op.result->norm : 1.0;
  op.result->nonfinite = nonfinite;
  op.result->refused = refuses_update(nonfinite, op.loss, op.gate);
}

template <typename Real>
void CpuOps<Real>::adamw(const AdamW& op) {
  check(op, dtype());
  if (op.norm->refused != 0) return;
  const std::int64_t blocks = op.parameters.numel() / AdamW::kBlock;
  const auto* decays = op.decays.data<std::uint8_t>();
  float *parameters = op.parameters.data<float>(), *first = op.m.data<float>(),
        *second = op.v.data<float>();
  const float* gradients = op.gradients.data<float>();
  const auto as_f32 = [](double x) { return splat(static_cast<float>(x)); };
  // sqrt(v / bc2) + eps = (sqrt(v) + eps * sqrt(bc2)) / sqrt(bc2).
  const double root2 = std::sqrt(op.step->bias_correction2);
  const F32 scale = as_f32(op.norm->scale);
  const F32 beta1 = as_f32(op.beta1), one_minus_beta1 = as_f32(1.0 - op.beta1);
  const F32 beta2 = as_f32(op.beta2), one_minus_beta2 = as_f32(1.0 - op.beta2);
  const F32 rate = as_f32(op.step->learning_rate * root2 / op.step->bias_correction1);
  const F32 epsilon = as_f32(op.epsilon * root2);
  const F32 decay_rate = as_f32(op.step->learning_rate * op.weight_decay);
  Real* const compute = std::is_same_v<Real, float> ? nullptr : op.compute.data<Real>();
  on_parts(team_, [&](int part) {
    const Range range = share(blocks, part, team_.parts);
    for (std::int64_t b = range.begin; b < range.end; ++b) {
      const F32 decay = decays[b] != 0 ? decay_rate : F32{};
      for (std::int64_t i = b * AdamW::kBlock; i < (b + 1) * AdamW::kBlock; i += kLanes) {
        const F32 g = load(gradients + i) * scale;
        const F32 p = load(parameters + i);
        const F32 m = beta1 * load(first + i) + one_minus_beta1 * g;
        const F32 v = beta2 * load(second + i) + one_minus_beta2 * (g * g);
        store(first + i, m);
        store(second + i, v);
        const F32 updated = p - (rate * m / (square_root(v) + epsilon) + decay * p);
        store(parameters + i, updated);
        if constexpr (!std::is_same_v<Real, float>) store(compute + i, updated);
      }
    }
  });
}

template void CpuOps<float>::adamw(const AdamW&);
template void CpuOps<Bfloat16>::adamw(const AdamW&);

}  // namespace bert::cpu
