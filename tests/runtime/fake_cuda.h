// The part of the CUDA runtime that runtime/device_cuda.cpp and runtime/nccl_all_reducer.cpp call,
// in host memory. Streams are as lazy as CUDA allows: nothing that is queued happens before someone
// must wait for it, or asks whether it is done. So what lacks an event to wait for is done too
// late, and a test sees it. Link it instead of the library.
#pragma once

#include <functional>

#include <cuda_runtime_api.h>

namespace bert::test {

struct FakeCuda {
  int gpus = 1;
  std::size_t memory = std::size_t{1} << 30;  // of a GPU
  bool stuck = false;                         // the GPU gets no further
  bool hung = false;                          // somebody waited for it without end
  int graph_launches = 0;
  int live_graphs = 0;  // that can be launched
};
FakeCuda& fake_cuda();

// Queues `work` as a kernel is queued.
void queue_on(cudaStream_t stream, std::function<void()> work);

}  // namespace bert::test

// The same for tests/runtime/fake_nccl.cpp, which is a library of its own.
extern "C" void fake_cuda_queue(cudaStream_t stream, void (*work)(void*), void* argument);
