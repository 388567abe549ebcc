// The classes behind make_cpu_ops (kernels/cpu_module.h); each op is defined in the .cpp named
// after it.
#pragma once

#include <cstdint>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

namespace bert::cpu {

// What does not depend on the dtype of activations.
class CpuOpsBase : public Ops {
 public:
  explicit CpuOpsBase(Team team);
  DType statistics_dtype() const override { return DType::f32; }

  void zero(const Tensor& x) override;
  void add_fixed_point(const AddFixedPoint& op) override;
  void read_fixed_point(const ReadFixedPoint& op) override;
  void gradient_norm(const ComputeGradientNorm& op) override;

 protected:
  // Zeroes rows [count, capacity) of x [capacity, ...]; absent tensors are skipped.
  void zero_tail(const Tensor& x, std::int64_t count);
  // Zeroes n floats on all threads.
  void zero_floats(float* x, std::int64_t n);
  // `count` floats for each part of the team, each part's on cache lines of its own: part p's are
  // at result + p * stride, stride = round_up(count, 16).
  float* per_part(std::int64_t count);
  // into[c] += partials[0][c] + partials[1][c] + ..., in the order of the parts.
  void add_partials(const float* partials, std::int64_t stride, std::int64_t n, float* into);

  Team team_;
  Scratch part_scratch_;  // per_part
  Scratch scratch_;       // one op's own
};

// Activations are Real: f32 or bf16. All arithmetic is in f32, but for products
// (product_kernels.h).
template <typename Real>
class CpuOps final : public CpuOpsBase {
 public:
  using CpuOpsBase::CpuOpsBase;
  std::string name() const override;
  DType dtype() const override { return dtype_of<Real>; }

  void embeddings_forward(const EmbeddingsForward& op) override;
  void embeddings_backward(const EmbeddingsBackward& op) override;
  void layer_norm_forward(const LayerNormForward& op) override;
  void layer_norm_backward(const LayerNormBackward& op) override;
  void bias_dropout_residual_layer_norm_forward(
      const BiasDropoutResidualLayerNormForward& op) override;
  void bias_dropout_residual_layer_norm_backward(
      const BiasDropoutResidualLayerNormBackward& op) override;
  void linear_forward(const LinearForward& op) override;
  void linear_backward(const LinearBackward& op) override;
  void activation_backward(const ActivationBackward& op) override;
  void attention_forward(const AttentionForward& op) override;
  void attention_backward(const AttentionBackward& op) override;
  void gather_rows(const GatherRows& op) override;
  void scatter_add_rows(const ScatterAddRows& op) override;
  void dropout_rows(const DropoutRows& op) override;
  void cross_entropy(const CrossEntropy& op) override;
  void squared_error(const SquaredError& op) override;
  void span_cross_entropy(const SpanCrossEntropy& op) override;
  void adamw(const AdamW& op) override;

 private:
  // dbias += column sums of the first `rows` rows of dy [rows, n].
  void add_column_sums(const Real* dy, std::int64_t rows, std::int64_t n, float* into);
};

}  // namespace bert::cpu
