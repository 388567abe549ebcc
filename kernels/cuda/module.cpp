// bert_cuda_backend.so: what kernels/cuda_module.h opens.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/float8.h"
#include "kernels/cuda/gemm_cublaslt.h"
#include "kernels/cuda_module_entry.h"
#include "runtime/device_cuda.h"
#include "runtime/error.h"
#ifdef BERT_WITH_NCCL
#include "kernels/cuda/bfloat16_copy.h"
#include "runtime/nccl_all_reducer.h"
#endif

namespace {
int attribute(cudaDeviceAttr which, int gpu) {
  int value = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&value, which, gpu);
  if (error != cudaSuccess) {
    bert::throw_runtime_error("cudaDeviceGetAttribute failed on GPU {}: {}", gpu,
                              cudaGetErrorString(error));
  }
  return value;
}
}  // namespace

extern "C" {

bool bert_open_cuda_backend(const bert::CudaOptions& options, bert::CudaBackend& backend,
                            std::string& why_not) {
  const int gpus = bert::count_cuda_devices(why_not);
  if (gpus == 0) return false;
  auto device = std::make_unique<bert::CudaDevice>(options.device % gpus);
  if (options.fp8) {
    const int gpu = options.device % gpus;
    bert::cuda::check_float8_support(attribute(cudaDevAttrComputeCapabilityMajor, gpu),
                                     attribute(cudaDevAttrComputeCapabilityMinor, gpu),
                                     device->name());
  }
  auto gemm = bert::cuda::make_cublaslt_gemm(*device, options.tf32, options.measure);
  backend.product_choices = [products = gemm.get()] { return products->choices(); };
  backend.set_product_choices = [products = gemm.get()](const std::string& choices) {
    return products->set_choices(choices);
  };
  backend.stop_choosing_products = [products = gemm.get()] { products->stop_choosing(); };
  backend.ops = std::make_unique<bert::cuda::CudaOps>(options.dtype, *device, device->stream(),
                                                      device->multiprocessors(), std::move(gemm),
                                                      options.fp8);
  backend.device = std::move(device);
  return true;
}

#ifdef BERT_WITH_NCCL
void bert_make_nccl_all_reducer(bert::Device& device, bert::Communicator& communicator,
                                bert::DType dtype, std::unique_ptr<bert::AllReducer>& reducer) {
  reducer = bert::make_nccl_all_reducer(
      dynamic_cast<bert::CudaDevice&>(device), communicator, dtype,
      {bert::cuda::narrow_to_bfloat16, bert::cuda::widen_from_bfloat16});
}
#else
void bert_make_nccl_all_reducer(bert::Device&, bert::Communicator&, bert::DType,
                                std::unique_ptr<bert::AllReducer>&) {
  bert::throw_runtime_error(
      "this build has no NCCL, which several ranks on GPUs need; build it where nccl.h is found "
      "(libnccl-dev), or use one rank");
}
#endif

}  // extern "C"
