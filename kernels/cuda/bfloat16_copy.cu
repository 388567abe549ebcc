// f32 to bf16 and back. 6 bytes an element and no arithmetic: memory is the limit. A thread moves
// eight elements at a time, blocks of 256 threads walk over the buffer in strides of the grid.
#include <algorithm>

#include "kernels/cuda/bfloat16_copy.h"
#include "kernels/cuda/vec.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kThreads = 256;
constexpr int kElements = 8;

template <class From, class To>
__global__ void copy_kernel(const From* from, To* to, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads * kElements;
  std::int64_t i = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kElements;
  for (; i < count; i += stride) {
    float values[kElements];
    load_floats<Reuse::once>(from + i, values);
    store_floats<Reuse::once>(to + i, values);
  }
}

template <class From, class To>
void copy(const char* name, const From* from, To* to, std::int64_t count, cudaStream_t stream) {
  BERT_CHECK(count % kElements == 0, "{} elements", count);
  constexpr std::int64_t kPerBlock = kThreads * kElements, kMostBlocks = 2048;
  const std::int64_t blocks = std::min(kMostBlocks, ceil_div(count, kPerBlock));
  const LaunchShape shape{dim3(static_cast<unsigned>(blocks)), dim3(kThreads)};
  launch(name, &copy_kernel<From, To>, shape, stream, from, to, count);
}

}  // namespace

void narrow_to_bfloat16(const float* from, void* to, std::int64_t count, cudaStream_t stream) {
  copy("narrow_to_bfloat16", from, static_cast<__nv_bfloat16*>(to), count, stream);
}

void widen_from_bfloat16(const void* from, float* to, std::int64_t count, cudaStream_t stream) {
  copy("widen_from_bfloat16", static_cast<const __nv_bfloat16*>(from), to, count, stream);
}

}  // namespace bert::BERT_CUDA
