#include "bench/timed_ops.h"

#include "bench/bench_support.h"

namespace bert::bench {

template <typename Call>
void TimedOps::timed(const char* name, Call&& call) {
  if (!watching_) return call();
  OpTime& time = times_[name];
  time.seconds += seconds_of(device_, call);
  ++time.calls;
}

void TimedOps::zero(const Tensor& x) {
  timed("zero", [&] { ops_->zero(x); });
}
void TimedOps::embeddings_forward(const EmbeddingsForward& op) {
  timed("embeddings_forward", [&] { ops_->embeddings_forward(op); });
}
void TimedOps::embeddings_backward(const EmbeddingsBackward& op) {
  timed("embeddings_backward", [&] { ops_->embeddings_backward(op); });
}
void TimedOps::layer_norm_forward(const LayerNormForward& op) {
  timed("layer_norm_forward", [&] { ops_->layer_norm_forward(op); });
}
void TimedOps::layer_norm_backward(const LayerNormBackward& op) {
  timed("layer_norm_backward", [&] { ops_->layer_norm_backward(op); });
}
void TimedOps::bias_dropout_residual_layer_norm_forward(
    const BiasDropoutResidualLayerNormForward& op) {
  timed("bias_dropout_residual_layer_norm_forward",
        [&] { ops_->bias_dropout_residual_layer_norm_forward(op); });
}
void TimedOps::bias_dropout_residual_layer_norm_backward(
    const BiasDropoutResidualLayerNormBackward& op) {
  timed("bias_dropout_residual_layer_norm_backward",
        [&] { ops_->bias_dropout_residual_layer_norm_backward(op); });
}

void TimedOps::linear_forward(const LinearForward& op) {
  timed("linear_forward", [&] { ops_->linear_forward(op); });
  if (!watching_) return;
  forward_products_.push_back({.x = op.x, .weight = op.weight, .rows = op.rows, .y = op.y});
}

void TimedOps::linear_backward(const LinearBackward& op) {
  timed("linear_backward", [&] { ops_->linear_backward(op); });
  if (!watching_) return;
  backward_products_.push_back({.dy = op.dy,
                                .x = op.x,
                                .weight = op.weight,
                                .rows = op.rows,
                                .dx = op.dx,
                                .accumulate_dx = op.accumulate_dx,
                                .dweight = op.dweight});
}

void TimedOps::activation_backward(const ActivationBackward& op) {
  timed("activation_backward", [&] { ops_->activation_backward(op); });
}
void TimedOps::attention_forward(const AttentionForward& op) {
  timed("attention_forward", [&] { ops_->attention_forward(op); });
}
void TimedOps::attention_backward(const AttentionBackward& op) {
  timed("attention_backward", [&] { ops_->attention_backward(op); });
}
void TimedOps::gather_rows(const GatherRows& op) {
  timed("gather_rows", [&] { ops_->gather_rows(op); });
}
void TimedOps::scatter_add_rows(const ScatterAddRows& op) {
  timed("scatter_add_rows", [&] { ops_->scatter_add_rows(op); });
}
void TimedOps::dropout_rows(const DropoutRows& op) {
  timed("rows", [&] { ops_->dropout_rows(op); });
}
void TimedOps::cross_entropy(const CrossEntropy& op) {
  timed("cross_entropy", [&] { ops_->cross_entropy(op); });
}
void TimedOps::squared_error(const SquaredError& op) {
  timed("squared_error", [&] { ops_->squared_error(op); });
}
void TimedOps::span_cross_entropy(const SpanCrossEntropy& op) {
  timed("span_cross_entropy", [&] { ops_->span_cross_entropy(op); });
}
void TimedOps::add_fixed_point(const AddFixedPoint& op) {
  timed("add_fixed_point", [&] { ops_->add_fixed_point(op); });
}
void TimedOps::read_fixed_point(const ReadFixedPoint& op) {
  timed("read_fixed_point", [&] { ops_->read_fixed_point(op); });
}
void TimedOps::gradient_norm(const ComputeGradientNorm& op) {
  timed("gradient_norm", [&] { ops_->gradient_norm(op); });
}
void TimedOps::adamw(const AdamW& op) {
  timed("adamw", [&] { ops_->adamw(op); });
}

double TimedOps::product_flop() const {
  double flop = 0.0;
  for (const LinearForward& op : forward_products_) {
    flop += 2.0 * static_cast<double>(op.x.numel()) * static_cast<double>(op.y.dim(1));
  }
  for (const LinearBackward& op : backward_products_) {
    const int products = (op.dx ? 1 : 0) + (op.dweight ? 1 : 0);
    flop += products * 2.0 * static_cast<double>(op.dy.numel()) *
            static_cast<double>(op.weight.compute.dim(1));
  }
  return flop;
}

void TimedOps::run_products() {
  for (const LinearForward& op : forward_products_) ops_->linear_forward(op);
  for (const LinearBackward& op : backward_products_) ops_->linear_backward(op);
}

}  // namespace bert::bench
