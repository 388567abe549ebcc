// The class behind the CUDA backend; each op is defined in the .cu named after it. These sources
// are compiled twice: by nvcc (bert::cuda) and for the SIMT harness of the tests (bert::simt).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert {

template <>
struct DTypeOf<__nv_bfloat16> {
  static constexpr DType value = DType::bf16;
};

namespace BERT_CUDA {

// Device memory that grows and is kept: what it held is lost when it grows. Work is captured only
// after it has been done once, so that a capture never allocates; and if it grows for other work
// later, what was captured is made anew (CudaDevice::free).
class Scratch {
 public:
  explicit Scratch(Device& device) : device_(&device) {}
  template <typename T>
  T* reserve(std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    if (bytes > memory_.bytes()) memory_ = DeviceBuffer(*device_, bytes);
    return static_cast<T*>(memory_.data());
  }

 private:
  Device* device_;
  DeviceBuffer memory_;
};

// f32: everything in f32. bf16: activations and products' operands in bf16, the rest in f32. fp8,
// with bf16: the products that their callers allow have operands in FP8.
class CudaOps final : public Ops {
 public:
  // Everything is queued on `stream` of `device`. `multiprocessors` sizes the grids of kernels that
  // walk over many rows a block; partial sums are split by it, so results depend on it.
  CudaOps(DType dtype, Device& device, cudaStream_t stream, int multiprocessors,
          std::unique_ptr<Gemm> gemm, bool fp8 = false)
      : dtype_(dtype),
        fp8_(fp8),
        stream_(stream),
        multiprocessors_(multiprocessors),
        gemm_(std::move(gemm)),
        scratch_(device) {}

  std::string name() const override;
  DType dtype() const override { return dtype_; }
  DType statistics_dtype() const override { return DType::f32; }

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

 private:
  // Calls f(T{}) with the C++ type of dtype().
  template <typename F>
  void with_real(F&& f) const {
    if (dtype_ == DType::bf16) {
      f(__nv_bfloat16{});
    } else {
      f(float{});
    }
  }

  // dbias of `op`; and dweight, by a product of dtype(), where `with_dweight`.
  void add_weight_gradients(const LinearBackward& op, bool with_dweight);

  DType dtype_;
  bool fp8_;
  cudaStream_t stream_;
  int multiprocessors_;
  std::unique_ptr<Gemm> gemm_;
  Scratch scratch_;  // one op's own
};

}  // namespace BERT_CUDA
}  // namespace bert
