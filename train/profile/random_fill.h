// Made-up numbers, for measuring: products of zeros take less power, and with it less time.
#pragma once

#include <cstdint>

#include "runtime/device.h"
#include "runtime/tensor.h"

namespace bert {

// Uniform in [-scale, scale], the same for the same seed; f64, f32 or bf16. Large tensors repeat
// themselves.
void fill_random(Device& device, const Tensor& tensor, float scale, std::uint32_t seed);

}  // namespace bert
