// FP8 copies of bf16 matrices, as products read them (gemm.h): each number times a power of two per
// tensor, rounded to e4m3 (4 exponent and 3 mantissa bits, up to 448) or e5m2 (5 and 2, up to
// 57344); Micikevicius et al. 2022, "FP8 Formats for Deep Learning".
//
// The scale comes from the tensor's own largest absolute value, of this very call: a maximum does
// not depend on the order it is taken in, and there is no history that a checkpoint would have to
// hold. It is the largest power of two that takes no number beyond the format's largest. A scale
// that used the range to its end would gain less than one of e4m3's 18 binades, and nothing in
// precision, which is relative. A power of two only shifts exponents: what is stored times the
// scale is exact, the error is the format's own rounding alone, and a weight rounds to the same
// number from step to step while the largest of its tensor drifts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <cuda_runtime_api.h>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"
#include "runtime/tensor.h"

namespace bert::BERT_CUDA {

struct Float8Request {
  Tensor x{};                  // bf16 [R, C], 16-byte aligned; C a multiple of 16
  DeviceCount rows = nullptr;  // rows from there on are read as zeros; null: all R count
  DType format = DType::e4m3;  // or e5m2
  bool plain = false;          // which copies are wanted
  bool transposed = false;     // then R is a multiple of 16

  std::size_t bytes() const;  // of memory for the copies and the scale; a multiple of 256
};

struct Float8Copies {
  Tensor plain{};       // [R, C]
  Tensor transposed{};  // [C, R]
  // In device memory: x = stored * scale. NaN where x has a NaN or an infinity in a row that
  // counts, so that every number of a product becomes NaN; 1 where all of x is zero.
  const float* scale = nullptr;
};

// Two launches on `stream`. `memory`: request.bytes(), as aligned as Device::allocate has it.
Float8Copies to_float8(const Float8Request& request, void* memory, cudaStream_t stream);

// Whether a matrix [rows, columns] can be an operand: plain, or transposed.
bool fits_float8(const Tensor& x, bool transposed);

// InputError unless a GPU of this compute capability has FP8 tensor cores (8.9, 9.0 and later).
void check_float8_support(int major, int minor, std::string_view gpu);

}  // namespace bert::BERT_CUDA
