#include "kernels/cuda/warpgroup.cuh"

namespace bert::BERT_CUDA {

TileSource tile_source(const __nv_bfloat16* x, std::int64_t rows, std::int64_t columns) {
  // The driver's function by way of the runtime: a program that is linked with the driver would not
  // start where there is none.
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                               12000, cudaEnableDefault, &result);
    if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) {
      throw_runtime_error("the driver has no cuTensorMapEncodeTiled ({})",
                          cudaGetErrorString(error));
    }
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  TileSource source{};
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t row_bytes[1] = {static_cast<cuuint64_t>(columns) * sizeof(__nv_bfloat16)};
  const cuuint32_t tile[2] = {64, 64}, steps[2] = {1, 1};
  const CUresult result =
      encode(&source, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<__nv_bfloat16*>(x), sizes,
             row_bytes, tile, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw_runtime_error("cuTensorMapEncodeTiled refuses [{}, {}] at {}: error {}", rows, columns,
                        static_cast<const void*>(x), static_cast<int>(result));
  }
  return source;
}

}  // namespace bert::BERT_CUDA
