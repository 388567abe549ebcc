#include "tests/support/device_memory.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/error.h"

extern "C" {
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* begin, std::size_t bytes);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* begin, std::size_t bytes);
}

namespace bert::test {
namespace {

constexpr std::byte kPattern{0xFF};

template <typename T>
T to(double value) {
  if constexpr (std::is_same_v<T, Bfloat16>)
    return Bfloat16(static_cast<float>(value));
  else
    return static_cast<T>(value);
}
template <typename T>
double from(T value) {
  if constexpr (std::is_same_v<T, Bfloat16>)
    return static_cast<float>(value);
  else
    return static_cast<double>(value);
}

template <typename T>
void encode_as(std::span<const double> values, std::byte* out) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const T value = to<T>(values[i]);
    if constexpr (std::is_integral_v<T>) {
      BERT_CHECK(static_cast<double>(value) == values[i], "{} as an integer", values[i]);
    }
    std::memcpy(out + i * sizeof(T), &value, sizeof(T));
  }
}

template <typename T>
void decode_as(std::span<const std::byte> bytes, std::vector<double>& out) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    out[i] = from(value);
  }
}

// Calls f with a value of the C++ type of `dtype`.
template <typename F>
void with_type(DType dtype, F f) {
  switch (dtype) {
    case DType::f64:
      return f(double{});
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(Bfloat16{});
    case DType::i32:
      return f(std::int32_t{});
    case DType::u32:
      return f(std::uint32_t{});
    case DType::i64:
      return f(std::int64_t{});
    case DType::u8:
      return f(std::uint8_t{});
    case DType::e4m3:
    case DType::e5m2:
      break;
  }
  throw_runtime_error("no test support for dtype {}", dtype_name(dtype));
}

// Where a program has AddressSanitizer, which these files need not be compiled for, it watches the
// guard bands in host memory: an access there is reported with its line.
void watch(const Device& device, const void* guard, std::size_t bytes, bool watched) {
  if (!device.is_cpu() || __asan_poison_memory_region == nullptr) return;
  (watched ? __asan_poison_memory_region : __asan_unpoison_memory_region)(guard, bytes);
}

}  // namespace

GuardedBuffer::GuardedBuffer(Device& device, std::size_t bytes)
    : device_(&device), memory_(device, bytes + 2 * kGuard), bytes_(bytes) {
  const std::vector<std::byte> pattern(memory_.bytes(), kPattern);
  device.copy_from_host(memory_.data(), pattern.data(), pattern.size());
  watch_guards(true);
}

void GuardedBuffer::watch_guards(bool watched) const {
  watch(*device_, memory_.data(), kGuard, watched);
  watch(*device_, static_cast<const std::byte*>(data()) + bytes_, kGuard, watched);
}

void GuardedBuffer::fill_nan() {
  const std::vector<std::byte> pattern(bytes_, kPattern);
  device_->copy_from_host(data(), pattern.data(), bytes_);
}

void GuardedBuffer::upload(std::span<const std::byte> bytes) {
  BERT_CHECK(bytes.size() == bytes_, "{} bytes for a buffer of {}", bytes.size(), bytes_);
  device_->copy_from_host(data(), bytes.data(), bytes_);
}

std::vector<std::byte> GuardedBuffer::download() const {
  std::vector<std::byte> bytes(bytes_);
  device_->copy_to_host(bytes.data(), data(), bytes_);
  return bytes;
}

bool GuardedBuffer::guards_intact() const {
  std::vector<std::byte> bytes(memory_.bytes());
  watch_guards(false);
  device_->copy_to_host(bytes.data(), memory_.data(), bytes.size());
  watch_guards(true);
  const auto is_pattern = [](std::byte b) { return b == kPattern; };
  return std::all_of(bytes.begin(), bytes.begin() + kGuard, is_pattern) &&
         std::all_of(bytes.end() - kGuard, bytes.end(), is_pattern);
}

std::vector<std::byte> encode(std::span<const double> values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * dtype_size(dtype));
  with_type(dtype, [&](auto zero) { encode_as<decltype(zero)>(values, bytes.data()); });
  return bytes;
}

std::vector<double> decode(std::span<const std::byte> bytes, DType dtype) {
  std::vector<double> values(bytes.size() / dtype_size(dtype));
  with_type(dtype, [&](auto zero) { decode_as<decltype(zero)>(bytes, values); });
  return values;
}

DeviceTensor::DeviceTensor(Device& device, DType dtype, std::initializer_list<std::int64_t> shape)
    : buffer_(device, Tensor(nullptr, dtype, shape).bytes()),
      tensor_(buffer_.data(), dtype, shape) {}

DeviceTensor::DeviceTensor(Device& device, DType dtype, std::initializer_list<std::int64_t> shape,
                           std::span<const double> values)
    : DeviceTensor(device, dtype, shape) {
  set(values);
}

}  // namespace bert::test
