#include "kernels/cuda_module.h"

#include <dlfcn.h>

#include "kernels/cuda_module_entry.h"
#include "runtime/error.h"
#include "runtime/module.h"

namespace bert {
namespace {

struct Module {
  void* library = nullptr;
  std::string why_not;
};

Module load() {
  Module module;
  const auto file = find_module(kCudaModuleFile);
  if (file.empty()) {
    module.why_not = "this build has no CUDA backend";
    return module;
  }
  // The driver first: without it there is no need to load cuBLAS.
  std::string error;
  if (open_library("libcuda.so.1", RTLD_LOCAL, error) == nullptr) {
    module.why_not = fmt::format("there is no NVIDIA driver here ({})", error);
    return module;
  }
  module.library = open_library(file, RTLD_LOCAL, error);
  if (module.library == nullptr) {
    module.why_not = fmt::format("the CUDA backend cannot be loaded: {}", error);
  }
  return module;
}

const Module& module() {
  static const Module loaded = load();
  return loaded;
}

template <typename Function>
Function* entry(const char* name) {
  return module_function<Function>(module().library, kCudaModuleFile, name);
}

}  // namespace

std::optional<CudaBackend> open_cuda_backend(const CudaOptions& options, std::string& why_not) {
  if (module().library == nullptr) {
    why_not = module().why_not;
    return std::nullopt;
  }
  CudaBackend backend;
  if (!entry<OpenCudaBackend>(kOpenCudaBackend)(options, backend, why_not)) return std::nullopt;
  return backend;
}

std::unique_ptr<AllReducer> make_gpu_all_reducer(Device& device, Communicator& communicator,
                                                 DType dtype) {
  BERT_CHECK(module().library != nullptr);
  std::unique_ptr<AllReducer> reducer;
  entry<MakeNcclAllReducer>(kMakeNcclAllReducer)(device, communicator, dtype, reducer);
  return reducer;
}

}  // namespace bert
