// What every .cu needs to be compiled twice: by nvcc, in namespace bert::cuda, and by a C++
// compiler with BERT_SIMT, in namespace bert::simt, for the harness of the tests that runs kernels
// on a CPU (docs/simt_harness.md). Sources write `namespace bert::BERT_CUDA {`.
//
// Kernels use launch() instead of <<<>>>, BERT_SHARED and dynamic_shared instead of __shared__,
// explicit true masks for *_sync, and no lock-step of a warp that these do not establish.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <tuple>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "runtime/error.h"

#ifdef BERT_SIMT
#define BERT_CUDA simt
#include <simt_device.h>  // tests/simt: the rest of the device language
#else
#define BERT_CUDA cuda
#endif

namespace bert::BERT_CUDA {

inline constexpr unsigned kFullMask = 0xffffffffu;  // all lanes of a warp

// a / b, rounded up; a >= 0, b > 0.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct LaunchShape {
  dim3 grid{};
  dim3 block{};
  std::size_t shared_bytes = 0;  // of dynamic shared memory
};

inline constexpr unsigned kMostThreads = 1024;
inline constexpr std::size_t kStaticSharedLimit = std::size_t{48} << 10;
// More than that, static arrays included, must be asked for; no kernel's are half of it.
inline constexpr std::size_t kUnaskedDynamicShared = kStaticSharedLimit / 2;
inline constexpr std::size_t kSharedLimit = std::size_t{227} << 10;  // static and dynamic, sm_90

// RuntimeError where a launch is beyond what sm_90 takes. False for an empty grid.
inline bool check_launch(const char* name, const LaunchShape& shape) {
  const dim3 &grid = shape.grid, &block = shape.block;
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const bool fits = threads >= 1 && threads <= kMostThreads && block.z <= 64 &&
                    grid.x <= 0x7FFFFFFFu && grid.y <= 65535 && grid.z <= 65535 &&
                    shape.shared_bytes <= kSharedLimit;
  if (!fits) {
    throw_runtime_error(
        "kernel {} cannot be launched with grid ({}, {}, {}), block ({}, {}, {}) and {} bytes of "
        "shared memory: at most {} threads (64 along z), a grid of 2^31 - 1 x 65535 x 65535 blocks "
        "and {} bytes",
        name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shape.shared_bytes, kMostThreads,
        kSharedLimit);
  }
  return grid.x > 0 && grid.y > 0 && grid.z > 0;
}

#ifdef BERT_SIMT

// Shared memory that a block may have on the current device, static and dynamic.
inline std::size_t shared_memory_limit() { return kSharedLimit; }

// Runs the kernel in the harness, to its end. What it throws: tests/simt/simt.h.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
            cudaStream_t /*stream*/, Arguments&&... arguments) {
  if (!check_launch(name, shape)) return;
  const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  harness::run(name, shape.grid, shape.block, shape.shared_bytes,
               [&] { std::apply(kernel, values); });
}

// A static array in shared memory, for use in a function body: BERT_SHARED(float, partial, 32);
#define BERT_SHARED(type, name, extent)                                                       \
  static const char name##_shared_key = 0;                                                    \
  type(&name)[extent] = *static_cast<type(*)[extent]>(                                        \
      ::bert::simt::harness::shared_array(&name##_shared_key, #name, sizeof(type) * (extent), \
                                          alignof(type) < 16 ? 16 : alignof(type)))

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(harness::dynamic_shared_memory());
}

#else

// Shared memory that a block may have on the current device, static and dynamic.
inline std::size_t shared_memory_limit() {
  static const std::size_t limit = [] {  // all devices of a process are alike
    int device = 0, bytes = 0;
    const bool known = cudaGetDevice(&device) == cudaSuccess &&
                       cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                              device) == cudaSuccess;
    return known ? static_cast<std::size_t>(bytes) : kStaticSharedLimit;
  }();
  return limit;
}

// Has a kernel take so much dynamic shared memory, if it has not yet. Never less than before: that
// is a state of the kernel, and what was recorded may need more than the launch at hand. For one
// thread, as launches are.
inline cudaError_t allow_shared_bytes(const void* kernel, std::size_t bytes) {
  static std::map<const void*, std::size_t> allowed;
  if (bytes <= kUnaskedDynamicShared) return cudaSuccess;
  std::size_t& most = allowed[kernel];
  if (bytes <= most) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error == cudaSuccess) most = bytes;
  return error;
}

// Queues the kernel on `stream`. An empty grid launches nothing. RuntimeError with the kernel's
// name and shape when it cannot be launched; errors while it runs show at the next synchronisation.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchShape& shape,
            cudaStream_t stream, Arguments&&... arguments) {
  if (!check_launch(name, shape)) return;
  const void* const function = reinterpret_cast<const void*>(kernel);
  cudaError_t error = allow_shared_bytes(function, shape.shared_bytes);
  std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  if (error == cudaSuccess) {
    error = std::apply(
        [&](auto&... value) {
          void* pointers[] = {const_cast<void*>(static_cast<const void*>(&value))..., nullptr};
          return cudaLaunchKernel(function, shape.grid, shape.block, pointers, shape.shared_bytes,
                                  stream);
        },
        values);
  }
  if (error != cudaSuccess) {
    (void)cudaGetLastError();  // said here, not again by the next call
    throw_runtime_error(
        "kernel {} with grid ({}, {}, {}), block ({}, {}, {}) and {} bytes of shared memory: {}",
        name, shape.grid.x, shape.grid.y, shape.grid.z, shape.block.x, shape.block.y, shape.block.z,
        shape.shared_bytes, cudaGetErrorString(error));
  }
}

// A static array in shared memory, 16-byte aligned: BERT_SHARED(float, partial, 32);
#define BERT_SHARED(type, name, extent) __shared__ __align__(16) type name[extent]

// The dynamic shared memory of the launch, 128-byte aligned.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(128) unsigned char dynamic_shared_memory[];
  return reinterpret_cast<T*>(dynamic_shared_memory);
}

#endif

}  // namespace bert::BERT_CUDA
