#include "kernels/reference/reference_ops.h"

#include <cstring>
#include <string>

#include "kernels/op_checks.h"
#include "kernels/reference/activation.h"
#include "kernels/reference/attention.h"
#include "kernels/reference/bias_dropout_residual_layer_norm.h"
#include "kernels/reference/cross_entropy.h"
#include "kernels/reference/dropout_rows.h"
#include "kernels/reference/embeddings.h"
#include "kernels/reference/fixed_point.h"
#include "kernels/reference/layer_norm.h"
#include "kernels/reference/linear.h"
#include "kernels/reference/optimizer.h"
#include "kernels/reference/rows.h"
#include "kernels/reference/span_cross_entropy.h"
#include "kernels/reference/squared_error.h"
#include "runtime/error.h"

namespace bert {
namespace {

template <typename Scalar>
class ReferenceOps final : public Ops {
 public:
  static constexpr DType kDType = dtype_of<Scalar>;

  std::string name() const override { return "reference " + std::string(dtype_name(kDType)); }
  DType dtype() const override { return kDType; }
  DType statistics_dtype() const override { return statistics_dtype_of(kDType); }

  void zero(const Tensor& x) override {
    if (x) std::memset(x.raw(), 0, x.bytes());
  }

  void embeddings_forward(const EmbeddingsForward& op) override {
    check(op, kDType);
    reference::embeddings_forward<Scalar>(op);
  }
  void embeddings_backward(const EmbeddingsBackward& op) override {
    check(op, kDType);
    reference::embeddings_backward<Scalar>(op);
  }
  void layer_norm_forward(const LayerNormForward& op) override {
    check(op, kDType);
    reference::layer_norm_forward<Scalar>(op);
  }
  void layer_norm_backward(const LayerNormBackward& op) override {
    check(op, kDType);
    reference::layer_norm_backward<Scalar>(op);
  }
  void bias_dropout_residual_layer_norm_forward(
      const BiasDropoutResidualLayerNormForward& op) override {
    check(op, kDType);
    reference::bias_dropout_residual_layer_norm_forward<Scalar>(op);
  }
  void bias_dropout_residual_layer_norm_backward(
      const BiasDropoutResidualLayerNormBackward& op) override {
    check(op, kDType);
    reference::bias_dropout_residual_layer_norm_backward<Scalar>(op);
  }
  void linear_forward(const LinearForward& op) override {
    check(op, kDType);
    reference::linear_forward<Scalar>(op);
  }
  void linear_backward(const LinearBackward& op) override {
    check(op, kDType);
    reference::linear_backward<Scalar>(op);
  }
  void activation_backward(const ActivationBackward& op) override {
    check(op, kDType);
    reference::activation_backward<Scalar>(op);
  }
  void attention_forward(const AttentionForward& op) override {
    check(op, kDType);
    reference::attention_forward<Scalar>(op);
  }
  void attention_backward(const AttentionBackward& op) override {
    check(op, kDType);
    reference::attention_backward<Scalar>(op);
  }
  void gather_rows(const GatherRows& op) override {
    check(op, kDType);
    reference::gather_rows<Scalar>(op);
  }
  void scatter_add_rows(const ScatterAddRows& op) override {
    check(op, kDType);
    reference::scatter_add_rows<Scalar>(op);
  }
  void dropout_rows(const DropoutRows& op) override {
    check(op, dtype());
    reference::dropout_rows<Scalar>(op);
  }
  void cross_entropy(const CrossEntropy& op) override {
    check(op, kDType);
    reference::cross_entropy<Scalar>(op);
  }
  void squared_error(const SquaredError& op) override {
    check(op, kDType);
    reference::squared_error<Scalar>(op);
  }
  void span_cross_entropy(const SpanCrossEntropy& op) override {
    check(op, kDType);
    reference::span_cross_entropy<Scalar>(op);
  }
  void add_fixed_point(const AddFixedPoint& op) override {
    check(op, kDType);
    reference::add_fixed_point<Scalar>(op);
  }
  void read_fixed_point(const ReadFixedPoint& op) override {
    check(op, kDType);
    reference::read_fixed_point<Scalar>(op);
  }
  void gradient_norm(const ComputeGradientNorm& op) override {
    check(op, kDType);
    reference::gradient_norm<Scalar>(op);
  }
  void adamw(const AdamW& op) override {
    check(op, kDType);
    reference::adamw<Scalar>(op);
  }
};

}  // namespace

std::unique_ptr<Ops> make_reference_ops(DType dtype) {
  if (dtype == DType::f64) return std::make_unique<ReferenceOps<double>>();
  if (dtype == DType::f32) return std::make_unique<ReferenceOps<float>>();
  throw_runtime_error("the reference ops exist for f64 and f32, not for {}", dtype_name(dtype));
}

}  // namespace bert
