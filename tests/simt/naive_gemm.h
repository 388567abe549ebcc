// Gemm by plain loops in host memory, for CudaOps in the SIMT harness.
#pragma once

#include <memory>

#include "kernels/cuda/gemm.h"

namespace bert::simt {

// `fused`: whether it says that it does epilogues (it then does all of them), so that both ways of
// CudaOps can be tested. Products of f32 are summed in f64, one after another.
std::unique_ptr<Gemm> make_naive_gemm(bool fused);

}  // namespace bert::simt
