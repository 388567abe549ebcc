#include "train/profile/timed_ops.h"

#include "train/profile/op_work.h"
#include "train/profile/timing.h"

namespace bert {

template <typename Op>
void TimedOps::timed(const char* name, void (Ops::*call)(const Op&), const Op& op) {
  const auto run = [&] { (ops_.get()->*call)(op); };
  if (!watching_) return run();
  OpTime& time = times_[name];
  time.seconds += seconds_of(device_, run);
  ++time.calls;
  const OpWork work = work_of(op, device_.is_cpu());
  time.flop += work.flop;
  time.bytes += work.bytes;
}

void TimedOps::zero(const Tensor& x) { timed("zero", &Ops::zero, x); }
void TimedOps::embeddings_forward(const EmbeddingsForward& op) {
  timed("embeddings_forward", &Ops::embeddings_forward, op);
}
void TimedOps::embeddings_backward(const EmbeddingsBackward& op) {
  timed("embeddings_backward", &Ops::embeddings_backward, op);
}
void TimedOps::layer_norm_forward(const LayerNormForward& op) {
  timed("layer_norm_forward", &Ops::layer_norm_forward, op);
}
void TimedOps::layer_norm_backward(const LayerNormBackward& op) {
  timed("layer_norm_backward", &Ops::layer_norm_backward, op);
}
void TimedOps::bias_dropout_residual_layer_norm_forward(
    const BiasDropoutResidualLayerNormForward& op) {
  timed("bias_dropout_residual_layer_norm_forward", &Ops::bias_dropout_residual_layer_norm_forward,
        op);
}
void TimedOps::bias_dropout_residual_layer_norm_backward(
    const BiasDropoutResidualLayerNormBackward& op) {
  timed("bias_dropout_residual_layer_norm_backward",
        &Ops::bias_dropout_residual_layer_norm_backward, op);
}
void TimedOps::linear_forward(const LinearForward& op) {
  timed("linear_forward", &Ops::linear_forward, op);
}
void TimedOps::linear_backward(const LinearBackward& op) {
  timed("linear_backward", &Ops::linear_backward, op);
}
void TimedOps::activation_backward(const ActivationBackward& op) {
  timed("activation_backward", &Ops::activation_backward, op);
}
void TimedOps::attention_forward(const AttentionForward& op) {
  timed("attention_forward", &Ops::attention_forward, op);
}
void TimedOps::attention_backward(const AttentionBackward& op) {
  timed("attention_backward", &Ops::attention_backward, op);
}
void TimedOps::gather_rows(const GatherRows& op) { timed("gather_rows", &Ops::gather_rows, op); }
void TimedOps::scatter_add_rows(const ScatterAddRows& op) {
  timed("scatter_add_rows", &Ops::scatter_add_rows, op);
}
void TimedOps::dropout_rows(const DropoutRows& op) {
  timed("dropout_rows", &Ops::dropout_rows, op);
}
void TimedOps::cross_entropy(const CrossEntropy& op) {
  timed("cross_entropy", &Ops::cross_entropy, op);
}
void TimedOps::squared_error(const SquaredError& op) {
  timed("squared_error", &Ops::squared_error, op);
}
void TimedOps::span_cross_entropy(const SpanCrossEntropy& op) {
  timed("span_cross_entropy", &Ops::span_cross_entropy, op);
}
void TimedOps::add_fixed_point(const AddFixedPoint& op) {
  timed("add_fixed_point", &Ops::add_fixed_point, op);
}
void TimedOps::read_fixed_point(const ReadFixedPoint& op) {
  timed("read_fixed_point", &Ops::read_fixed_point, op);
}
void TimedOps::gradient_norm(const ComputeGradientNorm& op) {
  timed("gradient_norm", &Ops::gradient_norm, op);
}
void TimedOps::adamw(const AdamW& op) { timed("adamw", &Ops::adamw, op); }

}  // namespace bert
