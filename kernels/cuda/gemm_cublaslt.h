// Gemm on cuBLASLt. Part of the CUDA module only; f32, bf16 and FP8, sums in f32.
#pragma once

#include <memory>

#include "kernels/cuda/gemm.h"
#include "runtime/device.h"

namespace bert::cuda {

// `tf32`: products of f32 round their operands to TF32 (10 bits of mantissa), for tensor cores.
// Owns 64 MiB of workspace, so its calls belong on one stream. At the first call of a shape the
// library's candidates are timed on that stream and the fastest is kept, and so is whether an
// epilogue is faster than a kernel. Where both are known of a product that differs only in its
// number of rows, by a factor of at most 1.5, that is taken over; after stop_choosing() whatever
// the factor. While the stream is captured, and without `measure`, nothing is timed: the library's
// first proposal is kept, and epilogues are used. RuntimeError when cuBLASLt cannot be opened.
//
// The library approximates GELU in its epilogues, forward and backward, to about 2e-5 (seen on
// Hopper): less than the rounding of TF32 and bf16 operands, and much more than that of f32, where
// these epilogues are not used.
std::unique_ptr<Gemm> make_cublaslt_gemm(Device& device, bool tf32, bool measure = true);

}  // namespace bert::cuda
