// The instructions that CUDA C++ has no name for. The only file with PTX but warpgroup.cuh; beside
// each wrapper its emulation for the SIMT harness, and tests/simt/intrinsics_test.cpp runs both.
// sm_80 and later.
//
// mma fragments, lane = 4 g + t (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   a [16, 16], pairs along k: a[0] = (row g, k 2t), a[1] = (g + 8, 2t), a[2] = (g, 2t + 8),
//   a[3] = (g + 8, 2t + 8); b [16, 8], pairs along k: b[0] = (k 2t, column g), b[1] = (2t + 8, g);
//   c, d [16, 8]: c[0], c[1] = (row g, columns 2t, 2t + 1), c[2], c[3] = (row g + 8, the same).
#pragma once

#include "kernels/cuda/launch.cuh"

namespace bert::BERT_CUDA {

#ifdef BERT_SIMT
#define BERT_SITE , harness::Site site = {}  // who called, for messages
#define BERT_PASS_SITE , site
#else
#define BERT_SITE
#define BERT_PASS_SITE
#endif

// --- Matrices of 16-bit elements from shared memory to fragments ---------------------------------
// Lane 8 m + i gives the address of row i (eight elements, 16 bytes, 16-byte aligned) of matrix m.
// r[m] is this lane's part of matrix m: (row g, columns 2t, 2t + 1), or of the transposed matrix
// with _trans.
namespace detail {
template <bool Transposed>
__device__ __forceinline__ void ldmatrix(unsigned (&r)[4], const void* shared_row BERT_SITE) {
#ifdef BERT_SIMT
  harness::check_aligned(shared_row, 16, "ldmatrix");
  harness::load_matrices(r, Transposed, *static_cast<const uint4*>(shared_row), site);
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared_row));
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}
}  // namespace detail

__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* shared_row BERT_SITE) {
  detail::ldmatrix<false>(r, shared_row BERT_PASS_SITE);
}
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4],
                                                  const void* shared_row BERT_SITE) {
  detail::ldmatrix<true>(r, shared_row BERT_PASS_SITE);
}

// --- Tensor cores --------------------------------------------------------------------------------
// d = a b + c, bf16 in, f32 out; d may be c. All 32 lanes take part.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const unsigned (&a)[4],
                                             const unsigned (&b)[2],
                                             const float (&c)[4] BERT_SITE) {
#ifdef BERT_SIMT
  harness::mma_bf16(d, a, b, c, site);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
        "f"(c[2]), "f"(c[3]));
#endif
}

// --- Copies from global to shared memory that run beside the kernel ------------------------------
// 16 bytes, both addresses 16-byte aligned; zeros when !valid, and then `global` is not read and
// may be anywhere. What was copied is there for this thread after cp_async_wait, for others after a
// barrier besides.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid) {
#ifdef BERT_SIMT
  // The copy is made when it is waited for; until then the place holds poison.
  harness::check_aligned(shared, 16, "cp.async");
  harness::check_aligned(global, 16, "cp.async");
  *static_cast<uint4*>(shared) = make_uint4(~0u, ~0u, ~0u, ~0u);
  harness::queue_async_copy({shared, valid ? global : nullptr});
#else
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
               "r"(bytes)
               : "memory");
#endif
}

// Makes a group of the copies since the last commit; a group may be empty.
__device__ __forceinline__ void cp_async_commit() {
#ifdef BERT_SIMT
  harness::commit_async_copies();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all groups but the N latest.
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#ifdef BERT_SIMT
  harness::AsyncCopy copy{};
  while (harness::next_async_copy(N, copy)) {
    uint4 value{};
    if (copy.global != nullptr) value = *static_cast<const uint4*>(copy.global);
    *static_cast<uint4*>(copy.shared) = value;
  }
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

// --- Conversions and approximations --------------------------------------------------------------
inline constexpr float kLog2E = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.69314718055994530942f;

// 2^x within 2 ulp; denormal results are zero.
__device__ __forceinline__ float exp2_approx(float x) {
#ifdef BERT_SIMT
  const float y = exp2f(x);
  return y < 0x1.0p-126f ? 0.0f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// Two f32 to two bf16 in a register, `low` in the low half (the lower address in memory).
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
#ifdef BERT_SIMT
  return static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16_rn(high))) << 16 |
         __bfloat16_as_ushort(__float2bfloat16_rn(low));
#else
  unsigned packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
#endif
}

// x: the low half, y: the high half.
__device__ __forceinline__ float2 unpack_bf16(unsigned packed) {
  return make_float2(__uint_as_float(packed << 16), __uint_as_float(packed & 0xffff0000u));
}

// All ones in each half of the result whose half of `values` is at least `threshold`, which is even
// and at most kLargestHalvesThreshold; zeros in the other. The halves are compared without their
// lowest bit, as f16: without a sign, f16 up to infinity are in the order of their bits, and NaNs,
// which are above, a comparison that is true of what has no order puts where they belong.
inline constexpr unsigned kLargestHalvesThreshold = 0xf800;
__device__ __forceinline__ unsigned kept_halves(unsigned values, unsigned threshold) {
#ifdef BERT_SIMT
  return ((values & 0xffffu) >= threshold ? 0xffffu : 0u) |
         (values >> 16 >= threshold ? 0xffff0000u : 0u);
#else
  const unsigned half = threshold >> 1;
  unsigned mask;
  asm("{.reg .b32 x; abs.f16x2 x, %1; set.geu.u32.f16x2 %0, x, %2;}"
      : "=r"(mask)
      : "r"(values >> 1), "r"(half * 0x10001u));
  return mask;
#endif
}

// The whole product of two 32-bit numbers in one instruction; nvcc makes the same C++ a product of
// 64-bit numbers when it has lost sight of where they come from. Host code never runs it, but the
// Philox function that takes it is host code too, as far as nvcc can tell.
struct WideProduct {
  __host__ __device__ std::uint64_t operator()(std::uint32_t a, std::uint32_t b) const {
#ifdef __CUDA_ARCH__
    std::uint64_t product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
#else
    return std::uint64_t{a} * b;
#endif
  }
};

// threadIdx.x, read anew: what is worked out from it keeps no registers from before.
__device__ __forceinline__ int thread_anew() {
#ifdef BERT_SIMT
  return static_cast<int>(threadIdx.x);
#else
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
#endif
}

// The compiler moves no load across this, so that what is loaded after it takes no registers
// before. All lanes of the warp call; it is one instruction and orders nothing that a kernel may
// rely on.
__device__ __forceinline__ void hold_loads() {
#ifndef BERT_SIMT
  asm volatile("bar.warp.sync 0xffffffff;" ::: "memory");
#endif
}

// x, such that the compiler cannot know it: what follows from it inside a loop is worked out there,
// and keeps no registers from before the loop.
__device__ __forceinline__ unsigned anew(unsigned x) {
#ifndef BERT_SIMT
  asm volatile("" : "+r"(x));
#endif
  return x;
}

#undef BERT_SITE
#undef BERT_PASS_SITE

}  // namespace bert::BERT_CUDA
