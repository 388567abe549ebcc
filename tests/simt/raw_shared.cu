// Must not compile for the harness, where this array would silently be private to each thread.
#include "kernels/cuda/launch.cuh"

namespace bert::BERT_CUDA {
__global__ void uses_raw_shared(float* out) {
  __shared__ float tile[32];
  out[threadIdx.x] = tile[threadIdx.x];
}
}  // namespace bert::BERT_CUDA
