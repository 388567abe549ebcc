// What fits into a micro-batch.
#pragma once

#include <cstdint>

#include "data/samples/batch.h"
#include "data/samples/data_loader.h"
#include "model/context.h"
#include "runtime/device.h"

namespace bert {

// More tokens than this in a micro-batch gain no speed and cost memory.
inline std::int64_t good_batch_tokens(const Device& device) {
  return device.is_cpu() ? 4096 : 32768;
}

// As much as there is memory for.
inline MicroBatchLimits limits_of(const Capacity& capacity) {
  return {.tokens = capacity.tokens, .sequences = capacity.sequences, .masked = capacity.masked};
}

// Whether one more sequence, of so many tokens of which `masked` are, has room in `batch`.
inline bool has_room(const Batch& batch, const MicroBatchLimits& limits, std::int64_t tokens,
                     std::int64_t masked) {
  return batch.num_tokens() + tokens <= limits.tokens && batch.num_sequences() < limits.sequences &&
         batch.num_masked() + masked <= limits.masked;
}

}  // namespace bert
