#include "tests/simt/simt_ops.h"

#include "kernels/cuda/cuda_backend.h"
#include "tests/simt/naive_gemm.h"

namespace bert::simt {

std::unique_ptr<Ops> make_simt_ops(DType dtype, Device& device, bool fused) {
  constexpr int kMultiprocessors = 2;  // few, so that grids are small and blocks have many rows
  return std::make_unique<CudaOps>(dtype, device, nullptr, kMultiprocessors,
                                   make_naive_gemm(fused));
}

}  // namespace bert::simt
