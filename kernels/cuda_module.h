// The CUDA backend, a module that is opened at run time: no program needs CUDA or a GPU to start.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "kernels/ops.h"
#include "runtime/all_reducer.h"
#include "runtime/communicator.h"
#include "runtime/device.h"
#include "runtime/dtype.h"

namespace bert {

struct CudaOptions {
  DType dtype = DType::bf16;  // of activations: bf16 or f32
  bool tf32 = false;          // f32 products in TF32
  bool fp8 = false;           // with bf16: products in FP8 where ops allow it
  int device = 0;             // as CUDA counts them; modulo their number
  // Products are computed in the way that is fastest here, by measuring; otherwise in the one that
  // the library names first, in every process the same.
  bool measure = true;
};

struct CudaBackend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;  // goes before the device
  // How products are computed where that was chosen by measuring, for checkpoints; Gemm's choices,
  // set_choices and stop_choosing (kernels/cuda/gemm.h). All are of `ops`.
  std::function<std::string()> product_choices;
  std::function<bool(const std::string&)> set_product_choices;
  std::function<void()> stop_choosing_products;
};

// Loads bert_cuda_backend.so (runtime/module.h) and opens a GPU. Nothing, and the reason in
// `why_not`, when this build has none or there is no driver, GPU or cuBLAS here.
// RuntimeError when there is a GPU that cannot be used. InputError when fp8 is asked for and the GPU
// has none.
std::optional<CudaBackend> open_cuda_backend(const CudaOptions& options, std::string& why_not);

// Sums over the GPUs of all ranks by NCCL; `device` is open_cuda_backend's. Numbers travel as
// `dtype`: f32 or bf16, or i64 where that is what they are. RuntimeError when NCCL is missing or
// refuses.
std::unique_ptr<AllReducer> make_gpu_all_reducer(Device& device, Communicator& communicator,
                                                 DType dtype);

}  // namespace bert
