// Kernels that run one intrinsics wrapper each, and their launchers; compiled by nvcc into
// bert::cuda and for the harness into bert::simt. Pointers are device memory.
#pragma once

#include <cstdint>

namespace bert {
namespace simt {
#define BERT_INTRINSICS_LAUNCHERS                                                                 \
  void launch_add(const float* x, const float* y, float* sum, int count);                         \
  /* sum over each block of `threads` of x, to all threads: out [blocks, threads] */              \
  void launch_block_sum(const float* x, float* out, int blocks, int threads);                     \
  void launch_block_max(const float* x, float* out, int blocks, int threads);                     \
  /* d [16, 8] = a [16, 16] b [16, 8] + c [16, 8], all row-major, a and b bf16 */                 \
  void launch_mma_bf16(const std::uint16_t* a, const std::uint16_t* b, const float* c, float* d); \
  /* the registers of ldmatrix_x4 of a [32, 8] of 16 bits: out [4, 32] */                         \
  void launch_ldmatrix(const std::uint16_t* rows, unsigned* out, bool transposed);                \
  /* out [128] = in [128] through two groups of cp.async, the second of them not valid */         \
  void launch_cp_async(const float* in, float* out);                                              \
  /* exp2_approx of x [count] and unpack(pack) of x, -x: out [3, count] */                        \
  void launch_conversions(const float* x, float* out, int count);                                 \
  /* the whole products a b; each thread finds its element by thread_anew; count <= 1024 */       \
  void launch_wide_products(const std::uint32_t* a, const std::uint32_t* b, std::uint64_t* out,   \
                            int count);                                                           \
  /* kept_halves of each */                                                                       \
  void launch_kept_halves(const std::uint32_t* values, unsigned threshold, std::uint32_t* out,    \
                          int count);                                                             \
  /* f32 -> bf16 -> f32 by vec.cuh; count a multiple of 8 */                                      \
  void launch_round_trip(const float* x, std::uint16_t* half, float* out, int count);
BERT_INTRINSICS_LAUNCHERS
}  // namespace simt
namespace cuda {
BERT_INTRINSICS_LAUNCHERS
}  // namespace cuda
#undef BERT_INTRINSICS_LAUNCHERS
}  // namespace bert
