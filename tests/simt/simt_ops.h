// CudaOps, its kernels run by the SIMT harness.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/cuda/gemm.h"
#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert::simt {

// Ops on host memory (`device` is the CPU), of f32 or bf16. `fused`: its Gemm does epilogues, as
// cuBLASLt can; without, kernels do them. `fp8`, with bf16: the products that allow it are in FP8.
std::unique_ptr<Ops> make_simt_ops(DType dtype, Device& device, bool fused, bool fp8 = false);
// The same with products by `gemm`.
std::unique_ptr<Ops> make_simt_ops(DType dtype, Device& device, std::unique_ptr<Gemm> gemm,
                                   bool fp8);

// kernels/cuda/float8.h: what to_float8 leaves in memory.
struct Float8Bytes {
  std::vector<std::uint8_t> plain{}, transposed{};
  float scale = 0.0f;
  bool wrote_outside = false;
};
Float8Bytes float8_bytes(const Tensor& x, DeviceCount rows, DType format, bool plain,
                         bool transposed);
void check_float8_support(int major, int minor, std::string_view gpu);

}  // namespace bert::simt
