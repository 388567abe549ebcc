// The CPU backend: every op of kernels/ops.h in f32 or bf16, on OpenMP and SIMD registers. Same
// inputs and number of parts, same bits.
#pragma once

#include <memory>
#include <optional>

#include "kernels/ops.h"

namespace bert {

// `threads` is at least 1 and fixed for the life of the object. Work is cut into `parts`, by
// default as many as there are threads; results depend on the parts alone (not on timing), and no
// more threads than parts are used. `dtype`, of activations: f32 or bf16.
std::unique_ptr<Ops> make_cpu_ops(int threads, std::optional<int> parts = std::nullopt,
                                  DType dtype = DType::f32);

}  // namespace bert
