#include "kernels/cuda_module.h"

#include <filesystem>

#include <dlfcn.h>

#include "kernels/cuda_module_entry.h"
#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

struct Module {
  void* library = nullptr;
  std::string why_not;
};

std::string dl_error() {
  const char* text = ::dlerror();
  return text != nullptr ? text : "unknown error";
}

// The folder of the shared library that this is part of, if it is part of one.
fs::path library_folder() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&dl_error), &info) == 0) return {};
  const fs::path file(info.dli_fname != nullptr ? info.dli_fname : "");
  return file.is_absolute() ? file.parent_path() : fs::path();
}

// Where the module is; empty where it is not.
fs::path find_module() {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& place : {library_folder(), folder, folder.parent_path() / "bin"}) {
    if (!place.empty() && fs::exists(place / kCudaModuleFile, error)) {
      return place / kCudaModuleFile;
    }
  }
  return {};
}

Module load() {
  Module module;
  const fs::path file = find_module();
  if (file.empty()) {
    module.why_not = "this build has no CUDA backend";
    return module;
  }
  // The driver first: without it there is no need to load cuBLAS.
  if (::dlopen("libcuda.so.1", RTLD_NOW) == nullptr) {
    module.why_not = "there is no NVIDIA driver here (" + dl_error() + ")";
    return module;
  }
  // Neither is ever closed: the CUDA runtime's exit handlers live in them.
  module.library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module.library == nullptr)
    module.why_not = "the CUDA backend cannot be loaded: " + dl_error();
  return module;
}

const Module& module() {
  static const Module loaded = load();
  return loaded;
}

template <typename Function>
Function* entry(const char* name) {
  auto* const function = reinterpret_cast<Function*>(::dlsym(module().library, name));
  if (function == nullptr) {
    throw_runtime_error("{} has no {}: it is of another build", kCudaModuleFile, name);
  }
  return function;
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

std::unique_ptr<AllReducer> make_nccl_all_reducer(Device& device, Communicator& communicator,
                                                  DType dtype) {
  BERT_CHECK(module().library != nullptr);
  std::unique_ptr<AllReducer> reducer;
  entry<MakeNcclAllReducer>(kMakeNcclAllReducer)(device, communicator, dtype, reducer);
  return reducer;
}

}  // namespace bert
