// The CPU backend: every op of kernels/ops.h in f32, products on OpenBLAS, the rest on OpenMP and
// SIMD registers. Same inputs and number of threads, same bits.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace bert {

// `threads` is at least 1 and fixed for the life of the object: results depend on it (not on
// timing). RuntimeError when OpenBLAS is not installed.
std::unique_ptr<Ops> make_cpu_ops(int threads);

}  // namespace bert
