// Tensors of floating-point numbers to and from host memory of f64, whatever their dtype.
#pragma once

#include <vector>

#include "runtime/device.h"
#include "runtime/tensor.h"

namespace bert {

// Waits for the work queued before it. f64, f32 or bf16.
inline std::vector<double> copy_to_doubles(Device& device, const Tensor& tensor) {
  const auto read = [&]<typename T>(std::vector<T> values) {
    device.copy_to_host(values.data(), tensor.raw(), tensor.bytes());
    if constexpr (std::is_same_v<T, double>) {
      return values;
    } else {
      std::vector<double> wide(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) wide[i] = static_cast<float>(values[i]);
      return wide;
    }
  };
  const auto n = static_cast<std::size_t>(tensor.numel());
  if (tensor.dtype() == DType::f64) return read(std::vector<double>(n));
  if (tensor.dtype() == DType::bf16) return read(std::vector<Bfloat16>(n));
  BERT_CHECK(tensor.dtype() == DType::f32);
  return read(std::vector<float>(n));
}

// f64 or f32, rounded.
inline void copy_from_doubles(Device& device, const Tensor& tensor,
                              const std::vector<double>& values) {
  BERT_CHECK(static_cast<std::int64_t>(values.size()) == tensor.numel());
  if (tensor.dtype() == DType::f64) {
    device.copy_from_host(tensor.raw(), values.data(), tensor.bytes());
    return;
  }
  BERT_CHECK(tensor.dtype() == DType::f32);
  const std::vector<float> narrow(values.begin(), values.end());
  device.copy_from_host(tensor.raw(), narrow.data(), tensor.bytes());
}

}  // namespace bert
