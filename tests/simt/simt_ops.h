// CudaOps, its kernels run by the SIMT harness.
#pragma once

#include <memory>

#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert::simt {

// Ops on host memory (`device` is the CPU), of f32 or bf16. `fused`: its Gemm does epilogues, as
// cuBLASLt can; without, kernels do them.
std::unique_ptr<Ops> make_simt_ops(DType dtype, Device& device, bool fused);

}  // namespace bert::simt
