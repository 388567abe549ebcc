// What bert_cuda_backend.so exports to kernels/cuda_module.cpp. Both are built together.
#pragma once

#include <memory>
#include <string>

#include "kernels/cuda_module.h"

namespace bert {

inline constexpr const char* kCudaModuleFile = "bert_cuda_backend.so";

// False, and the reason, without a GPU.
using OpenCudaBackend = bool(const CudaOptions& options, CudaBackend& backend,
                             std::string& why_not);
inline constexpr const char* kOpenCudaBackend = "bert_open_cuda_backend";

using MakeNcclAllReducer = void(Device& device, Communicator& communicator, DType dtype,
                                std::unique_ptr<AllReducer>& reducer);
inline constexpr const char* kMakeNcclAllReducer = "bert_make_nccl_all_reducer";

}  // namespace bert
