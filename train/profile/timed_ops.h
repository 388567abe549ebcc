// TimedOps: an Ops that passes every call on and, when it watches, notes how long each took and
// what it had to do.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert {

// Of all calls of an op that were watched.
struct OpTime {
  double seconds = 0.0;
  std::int64_t calls = 0;
  double flop = 0.0, bytes = 0.0;  // as OpWork has them (train/profile/op_work.h)
};
using OpTimes = std::map<std::string, OpTime>;  // by the op's name

class TimedOps : public Ops {
 public:
  // `device` is that of `ops`; it is waited for before and after each call that is watched.
  TimedOps(std::unique_ptr<Ops> ops, Device& device) : ops_(std::move(ops)), device_(device) {}

  void watch() { watching_ = true; }  // adds to what was noted before
  void look_away() { watching_ = false; }
  bool watching() const { return watching_; }
  void clear() { times_.clear(); }
  const OpTimes& times() const { return times_; }

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
  void dropout_rows(const DropoutRows& op) override;
  void cross_entropy(const CrossEntropy& op) override;
  void squared_error(const SquaredError& op) override;
  void span_cross_entropy(const SpanCrossEntropy& op) override;
  void add_fixed_point(const AddFixedPoint& op) override;
  void read_fixed_point(const ReadFixedPoint& op) override;
  void gradient_norm(const ComputeGradientNorm& op) override;
  void adamw(const AdamW& op) override;

 protected:
  Ops& ops() { return *ops_; }

 private:
  template <typename Op>
  void timed(const char* name, void (Ops::*call)(const Op&), const Op& op);

  std::unique_ptr<Ops> ops_;
  Device& device_;
  bool watching_ = false;
  OpTimes times_;
};

}  // namespace bert
