// Device memory for tests: fresh memory is NaN, and guard bands around it show who wrote outside.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace bert::test {

// One allocation, filled with 0xFF bytes (NaN as f32 and f64, -1 as an integer), between two guard
// bands of the same pattern: reading outside poisons the result, writing outside is found.
class GuardedBuffer {
 public:
  GuardedBuffer(Device& device, std::size_t bytes);

  void* data() const { return static_cast<std::byte*>(memory_.data()) + kGuard; }
  std::size_t bytes() const { return bytes_; }

  void fill_nan();
  void upload(std::span<const std::byte> bytes);  // bytes() of them
  std::vector<std::byte> download() const;
  bool guards_intact() const;

 private:
  void watch_guards(bool watched) const;

  static constexpr std::size_t kGuard = 256;

  Device* device_;
  DeviceBuffer memory_;
  std::size_t bytes_;
};

// Host numbers <-> the bytes of a dtype. Integers must be integral.
std::vector<std::byte> encode(std::span<const double> values, DType dtype);
std::vector<double> decode(std::span<const std::byte> bytes, DType dtype);

// A tensor with values of its own, for tests that need no more than that.
class DeviceTensor {
 public:
  DeviceTensor(Device& device, DType dtype, std::initializer_list<std::int64_t> shape);
  DeviceTensor(Device& device, DType dtype, std::initializer_list<std::int64_t> shape,
               std::span<const double> values);

  operator const Tensor&() const { return tensor_; }  // passed as the view it owns
  const Tensor& tensor() const { return tensor_; }
  std::vector<double> values() const { return decode(buffer_.download(), tensor_.dtype()); }
  void set(std::span<const double> values) { buffer_.upload(encode(values, tensor_.dtype())); }
  bool guards_intact() const { return buffer_.guards_intact(); }

 private:
  GuardedBuffer buffer_;
  Tensor tensor_;
};

// A struct in device memory.
template <typename T>
class DeviceStruct {
 public:
  DeviceStruct(Device& device, const T& value) : buffer_(device, sizeof(T)) { set(value); }
  T* data() const { return static_cast<T*>(buffer_.data()); }
  void set(const T& value) { buffer_.upload(std::as_bytes(std::span(&value, 1))); }
  T get() const {
    T value;
    const std::vector<std::byte> bytes = buffer_.download();
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<std::byte*>(&value));
    return value;
  }

 private:
  GuardedBuffer buffer_;
};

}  // namespace bert::test
