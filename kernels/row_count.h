// How many rows of a tensor count, read on the host.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "runtime/error.h"

namespace bert {

// How many of the `capacity` rows count.
inline std::int64_t row_count(DeviceCount count, std::int64_t capacity) {
  BERT_CHECK(*count >= 0 && *count <= capacity, "count {} of capacity {}", *count, capacity);
  return *count;
}

}  // namespace bert
