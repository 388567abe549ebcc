// What the ops share about rows: counts and tails.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/ops.h"
#include "runtime/error.h"

namespace bert::reference {

// How many of the `capacity` rows count.
inline std::int64_t row_count(DeviceCount count, std::int64_t capacity) {
  BERT_CHECK(*count >= 0 && *count <= capacity, "count {} of capacity {}", *count, capacity);
  return *count;
}

// Zeroes the rows [count, capacity) of a tensor whose first dimension is its capacity.
template <typename Scalar>
void zero_tail(const Tensor& tensor, std::int64_t count) {
  const std::int64_t width = tensor.numel() / tensor.rows();
  std::fill(tensor.data<Scalar>() + count * width, tensor.data<Scalar>() + tensor.numel(),
            Scalar(0));
}

}  // namespace bert::reference
