// Zeroes the rows of a tensor that do not count.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/tensor.h"

namespace bert::reference {

// Zeroes the rows [count, capacity) of a tensor whose first dimension is its capacity.
template <typename Scalar>
void zero_tail(const Tensor& tensor, std::int64_t count) {
  const std::int64_t width = tensor.numel() / tensor.rows();
  std::fill(tensor.data<Scalar>() + count * width, tensor.data<Scalar>() + tensor.numel(),
            Scalar(0));
}

}  // namespace bert::reference
