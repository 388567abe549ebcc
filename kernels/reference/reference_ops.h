// The reference backend: every op as naive loops, templated on the scalar type. No BLAS, no
// threads, no vector types: what it computes can be read beside the formula. In f64 it is the
// oracle of the gradient checks and the precision `fp64`.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace bert {

// dtype: f64 or f32; statistics, losses and parameters have the same dtype.
// All memory the ops are given, counts included, is host memory.
std::unique_ptr<Ops> make_reference_ops(DType dtype);

}  // namespace bert
