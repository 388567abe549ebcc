// What the benchmarks share: memory with random contents, a packed batch of equal sequences, and
// the machine's ceilings, measured in the same run.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert::bench {

// Tensors that live as long as this object.
class Memory {
 public:
  explicit Memory(Device& device) : device_(device) {}

  Tensor zeros(DType dtype, std::initializer_list<std::int64_t> shape);
  // f32, uniform in [-scale, scale], the same in every run.
  Tensor random(std::initializer_list<std::int64_t> shape, float scale = 1.0f);
  // i32, uniform in [0, bound).
  Tensor random_ids(std::int64_t n, std::int32_t bound);
  Tensor i32(const std::vector<std::int32_t>& values);
  // One value in device memory.
  template <typename T>
  T* value(const T& v) {
    DeviceBuffer buffer(device_, sizeof(T));
    device_.copy_from_host(buffer.data(), &v, sizeof(T));
    buffers_.push_back(std::move(buffer));
    return static_cast<T*>(buffers_.back().data());
  }

 private:
  Device& device_;
  std::vector<DeviceBuffer> buffers_;
  std::uint32_t seed_ = 0;
};

// `sequences` sequences of `length` tokens, no capacity to spare.
PackedTokens packed_tokens(Memory& memory, std::int64_t sequences, std::int64_t length);

// What this machine reaches, on `threads` threads.
struct Ceilings {
  double gemm_flops = 0.0;  // FLOP/s of a large single-precision product
  double copy_bytes = 0.0;  // bytes/s read + written by a copy larger than the caches
};
Ceilings measure_ceilings(int threads);

// Seconds that `work` takes: the fastest of `repeats` after one that is not counted.
template <typename Work>
double fastest_seconds(int repeats, Work&& work);

}  // namespace bert::bench

#include <chrono>

template <typename Work>
double bert::bench::fastest_seconds(int repeats, Work&& work) {
  work();
  double fastest = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    if (elapsed.count() < fastest) fastest = elapsed.count();
  }
  return fastest;
}
