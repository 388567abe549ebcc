// TimedOps: an Ops that passes every call on, notes how long it took, and remembers each product of
// the linear layers, so that the very same products can be run again without anything else.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace bert::bench {

// One product of a linear layer on the memory it had: c = op(a) op(b) + beta c, row-major.
struct Product {
  bool transpose_a, transpose_b;
  std::int64_t m, n, k;
  const float *a, *b;
  float beta;
  float* c;
  double flop() const { return 2.0 * double(m) * double(n) * double(k); }
};

struct OpTime {
  double seconds = 0.0;
  std::int64_t calls = 0;
};

class TimedOps final : public Ops {
 public:
  explicit TimedOps(std::unique_ptr<Ops> ops) : ops_(std::move(ops)) {}

  // Both start again at nothing.
  void reset() {
    times_.clear();
    products_.clear();
  }
  const std::map<std::string, OpTime>& times() const { return times_; }
  const std::vector<Product>& products() const { return products_; }

  std::string name() const override { return ops_->name(); }
  DType dtype() const override { return ops_->dtype(); }
  DType statistics_dtype() const override { return ops_->statistics_dtype(); }

  void zero(const Tensor& x) override;
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
  void cross_entropy(const CrossEntropy& op) override;
  void gradient_norm(const ComputeGradientNorm& op) override;
  void adamw(const AdamW& op) override;

 private:
  template <typename Call>
  void timed(const char* name, Call&& call);

  std::unique_ptr<Ops> ops_;
  std::map<std::string, OpTime> times_;
  std::vector<Product> products_;
};

// Runs the products again, one after another, on the CPU backend's BLAS. What they write is
// overwritten, gradients included.
void run_products(const std::vector<Product>& products, int threads);

}  // namespace bert::bench
