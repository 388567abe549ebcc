// Sums over the GPUs of all ranks by NCCL. Part of the CUDA module only.
#pragma once

#include <cstdint>
#include <memory>

#include <cuda_runtime_api.h>

#include "runtime/all_reducer.h"
#include "runtime/communicator.h"
#include "runtime/device_cuda.h"
#include "runtime/dtype.h"

namespace bert {

// How f32 becomes bf16 and back, given by who has kernels. `count` elements, on `stream`.
struct Bfloat16Kernels {
  void (*narrow)(const float* from, void* to, std::int64_t count, cudaStream_t stream) = nullptr;
  void (*widen)(const void* from, float* to, std::int64_t count, cudaStream_t stream) = nullptr;
};

// Opens libnccl.so.2. `dtype` is what travels: f32 or bf16 for pieces that are f32, i64 for those.
std::unique_ptr<AllReducer> make_nccl_all_reducer(CudaDevice& device, Communicator& communicator,
                                                  DType dtype, const Bfloat16Kernels& kernels);

}  // namespace bert
