// What the benchmarks share: a backend to time, memory with random contents, packed batches.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "runtime/device.h"
#include "train/profile/timing.h"

namespace bert::bench {

// What to time: "cpu" in fp32 or bf16 on `threads` threads, or "cuda" in fp32, tf32, bf16 or fp8.
struct BackendChoice {
  std::string device = "cpu";
  std::string precision = "auto";  // auto: fp32 on a CPU, bf16 on a GPU
  int threads = 1;                 // of the CPU
};
struct Backend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
  std::string precision;  // never auto
  bool is_cpu() const { return device->is_cpu(); }
};
// InputError with the reason where there is no such device, or it has no such precision.
Backend open_backend(const BackendChoice& choice);

// Tensors that live as long as this object.
class Memory {
 public:
  explicit Memory(Device& device) : device_(device) {}

  Tensor zeros(DType dtype, std::initializer_list<std::int64_t> shape);
  // Uniform in [-scale, scale], the same in every run; f32 or bf16. Large ones repeat themselves.
  Tensor random(std::initializer_list<std::int64_t> shape, float scale = 1.0f,
                DType dtype = DType::f32);
  // The same into memory that is there.
  void fill_random(const Tensor& tensor, float scale = 1.0f);
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

// Tokens of each sequence of a batch.
using Lengths = std::vector<std::int64_t>;
// As in text that is not cut to one length: `tokens` (or the nearest number that there is) in B
// sequences whose lengths are spread evenly from length / B to `length`, so that padding them to
// `length` would nearly double the slots, as English Wikipedia does at 512 (Krell et al. 2021,
// "Efficient Sequence Packing without Cross-contamination": up to half is padding). Short and long
// alternate, so that no order by length helps anybody.
Lengths natural_lengths(std::int64_t tokens, std::int64_t length);

// Sequences of these lengths one after another, no capacity to spare.
PackedTokens packed_tokens(Memory& memory, const Lengths& lengths);

}  // namespace bert::bench
