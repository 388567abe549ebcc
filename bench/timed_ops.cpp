#include "bench/timed_ops.h"

#include <chrono>

#include "kernels/cpu/blas.h"

namespace bert::bench {

template <typename Call>
void TimedOps::timed(const char* name, Call&& call) {
  const auto begin = std::chrono::steady_clock::now();
  call();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  OpTime& time = times_[name];
  time.seconds += elapsed.count();
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
  if (*op.rows == 0) return;
  products_.push_back({false, true, *op.rows, op.y.dim(1), op.x.dim(1), op.x.data<float>(),
                       op.weight.compute.data<float>(), 0.0f, op.y.data<float>()});
}

void TimedOps::linear_backward(const LinearBackward& op) {
  timed("linear_backward", [&] { ops_->linear_backward(op); });
  const std::int64_t rows = *op.rows, n = op.dy.dim(1), k = op.weight.compute.dim(1);
  if (rows == 0) return;
  const float* dy = op.dy.data<float>();
  if (op.dweight) {
    products_.push_back(
        {true, false, n, k, rows, dy, op.x.data<float>(), 1.0f, op.dweight.data<float>()});
  }
  if (op.dx) {
    products_.push_back({false, false, rows, k, n, dy, op.weight.compute.data<float>(),
                         op.accumulate_dx ? 1.0f : 0.0f, op.dx.data<float>()});
  }
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
void TimedOps::cross_entropy(const CrossEntropy& op) {
  timed("cross_entropy", [&] { ops_->cross_entropy(op); });
}
void TimedOps::gradient_norm(const ComputeGradientNorm& op) {
  timed("gradient_norm", [&] { ops_->gradient_norm(op); });
}
void TimedOps::adamw(const AdamW& op) {
  timed("adamw", [&] { ops_->adamw(op); });
}

void run_products(const std::vector<Product>& products, int threads) {
  for (const Product& p : products) {
    cpu::product(threads, p.transpose_a, p.transpose_b, p.m, p.n, p.k, p.a, p.b, p.beta, p.c);
  }
}

}  // namespace bert::bench
