// Gemm: dense products for CudaOps. On a GPU cuBLASLt (gemm_cublaslt.cpp), in the SIMT harness
// plain loops. Everything is row-major; who computes column-major exchanges the operands.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <cuda_runtime_api.h>

#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace bert {

// What happens to a product on its way out, in the accumulator's precision; or, with
// bias_gradient, to an operand on its way in.
enum class Epilogue {
  none,
  bias,               // d = product + bias
  gelu_new_aux_bias,  // aux = product + bias; d = gelu_new(aux) (GELU's tanh form)
  dgelu_new,          // d = product * gelu_new'(aux)
  bias_gradient,      // bias = sums of op(a)'s rows, along k
};

// d [m, n] = epilogue(op(a) op(b)) + beta * d. op(a) is [m, k]: `a` itself, or the transpose of a
// [k, m]; op(b) is [k, n]: `b` itself, or the transpose of b [n, k]. a and b have one dtype (f32 or
// bf16), d has that or f32; sums are f32.
//
// In FP8, a is e4m3 or e5m2 and b is e4m3, and their numbers are what is stored times a_scale and
// b_scale; d is bf16 or f32. As Hopper's FP8 tensor cores need both operands along k: `a` as it is,
// b transposed; n and k multiples of 16, all memory 16-byte aligned. An epilogue needs d of bf16,
// so that there is no bias_gradient.
struct GemmCall {
  Tensor a{}, b{}, d{};
  bool transpose_a = false, transpose_b = false;
  bool sums_rows = false;  // k counts the rows of a batch; otherwise m does
  float beta = 0.0f;       // 0 or 1; with 0, d is not read
  Epilogue epilogue = Epilogue::none;
  Tensor bias{};  // [n] of d's dtype; of bias_gradient f32 [m], overwritten, and d is f32
  Tensor aux{};   // [m, n] of d's dtype; written by gelu_new_aux_bias, read by dgelu_new
  const float* a_scale = nullptr;  // device memory; with FP8 only
  const float* b_scale = nullptr;
};

inline bool is_float8(DType dtype) { return dtype == DType::e4m3 || dtype == DType::e5m2; }

class Gemm {
 public:
  virtual ~Gemm() = default;
  // Whether `run` can do this call's epilogue in its product, as precisely as CudaOps does it by a
  // kernel otherwise. Everything else is always supported.
  virtual bool fuses(const GemmCall& call) const = 0;

  // Queues kernels for what a product without the epilogue leaves to do; `d` is its result.
  using Rest = std::function<void(const Tensor& d)>;
  // Whether `fused` is the way to go, and not `plain`, whose d is as large, and then
  // `rest(plain.d)`. The answer for a shape is always the same. It may be found by doing both on
  // `stream`, to other memory than the d of either; whatever else the two and `rest` write must be
  // free to be written.
  virtual bool worth_fusing(const GemmCall& fused, const GemmCall& /*plain*/, const Rest& /*rest*/,
                            cudaStream_t /*stream*/) {
    return fuses(fused);
  }

  // Queues the product on `stream`. RuntimeError with the shapes when the library refuses.
  virtual void run(const GemmCall& call, cudaStream_t stream) = 0;

  // How the shapes seen so far are computed, and what is worth fusing, where that was chosen by
  // measuring: text for a checkpoint, so that a resumed run computes the same bits.
  virtual std::string choices() const { return {}; }
  // From now on nothing is chosen by measuring any more: a shape that is new is computed like the
  // nearest of those in choices(), so that the way does not depend on when the shape is met.
  virtual void stop_choosing() {}
  // Takes such a text; before the first product. False, and nothing is changed, when it comes from
  // another version of the library or of this text, or another kind of GPU; InputError when it is
  // damaged.
  virtual bool set_choices(const std::string& /*choices*/) { return true; }
};

}  // namespace bert
