// What a kernel sees when kernels/cuda/*.cu are compiled by a C++ compiler: the names of CUDA's
// device language that the toolkit's headers do not bring there, in the namespace of the kernels.
// Included by kernels/cuda/launch.cuh.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "tests/simt/simt.h"

// The toolkit leaves these as unknown attributes, or silently as nothing.
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ raw_shared_memory_is_private_in_the_harness_use_BERT_SHARED
#undef __grid_constant__
#define __grid_constant__
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// With all checks inlined a kernel takes the compiler twice as long.
#undef __forceinline__
#define __forceinline__ inline
#endif

namespace bert::simt {

// --- Where a thread is ---------------------------------------------------------------------------
// Set before each switch to another thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

// --- The harness, as collectives and intrinsics use it -------------------------------------------
namespace harness {

// The line of a kernel that called; a default argument.
struct Site {
  constexpr Site(const char* in_file = __builtin_FILE(), int at_line = __builtin_LINE())
      : file(in_file), line(at_line) {}
  const char* file;
  int line;
};

// Runs once for the lanes of `mask`, when all of them have called; lanes[i] is what lane i gave.
using Resolve = void (*)(void* const (&lanes)[32], unsigned mask);
// The calling thread waits until all lanes of `mask` have called the same.
void warp_collective(const char* name, unsigned mask, void* operand, Resolve resolve, Site site);

enum class Vote { none, any, all, count };
int block_barrier(const char* name, Vote vote, bool predicate, Site site);
void warp_barrier(unsigned mask, Site site);
void fence();
// In random orders, now and then lets another thread go on.
void interleave();

std::uint64_t shuffle(const char* name, unsigned mask, std::uint64_t bits, int source, Site site);
void gather(const char* name, unsigned mask, std::uint64_t bits, std::uint64_t (&all)[32],
            Site site);  // what every lane gave; 0 for those outside the mask
int lane();

void* shared_array(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
void* dynamic_shared_memory();

// Tensor cores: fragments as PTX lays them out over the lanes of a warp.
// d = a b + c, a [16, 16] and b [16, 8] of bf16.
void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4],
              Site site);
// Lane 8 m + i gives row i of matrix m, 8 x 8 of 16 bits.
void load_matrices(unsigned (&result)[4], bool transposed, const uint4& row, Site site);

// cp.async of the calling thread.
struct AsyncCopy {
  void* shared;
  const void* global;  // null: zeros
};
void queue_async_copy(const AsyncCopy& copy);
void commit_async_copies();
// The next copy of all but the `keep` latest groups; false when there is none left.
bool next_async_copy(int keep, AsyncCopy& copy);

[[noreturn]] void fail(FailureKind kind, const std::string& what);
void check_aligned(const void* address, std::size_t alignment, const char* what);

// Runs body() once for each thread of the grid.
void run(const char* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
         const std::function<void()>& body);

template <typename T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <typename T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace harness

// --- Barriers, fences ----------------------------------------------------------------------------
inline void __syncthreads(harness::Site site = {}) {
  harness::block_barrier("__syncthreads", harness::Vote::none, false, site);
}
inline int __syncthreads_or(int predicate, harness::Site site = {}) {
  return harness::block_barrier("__syncthreads_or", harness::Vote::any, predicate != 0, site);
}
inline int __syncthreads_and(int predicate, harness::Site site = {}) {
  return harness::block_barrier("__syncthreads_and", harness::Vote::all, predicate != 0, site);
}
inline int __syncthreads_count(int predicate, harness::Site site = {}) {
  return harness::block_barrier("__syncthreads_count", harness::Vote::count, predicate != 0, site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, harness::Site site = {}) {
  harness::warp_barrier(mask, site);
}
inline void __threadfence() { harness::fence(); }
inline void __threadfence_block() { harness::fence(); }
[[noreturn]] inline void __trap() { harness::fail(harness::FailureKind::trap, "__trap()"); }

// --- Warp collectives ----------------------------------------------------------------------------
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, harness::Site site = {}) {
  const int lane = harness::lane();
  const int from = (lane & ~(width - 1)) | (source & (width - 1));
  return harness::from_bits<T>(
      harness::shuffle("__shfl_sync", mask, harness::to_bits(value), from, site));
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, harness::Site site = {}) {
  const int lane = harness::lane();
  const int from = lane - static_cast<int>(delta);
  return harness::from_bits<T>(harness::shuffle("__shfl_up_sync", mask, harness::to_bits(value),
                                                from < (lane & ~(width - 1)) ? lane : from, site));
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   harness::Site site = {}) {
  const int lane = harness::lane();
  const int from = lane + static_cast<int>(delta);
  return harness::from_bits<T>(harness::shuffle("__shfl_down_sync", mask, harness::to_bits(value),
                                                from > (lane | (width - 1)) ? lane : from, site));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, harness::Site site = {}) {
  const int lane = harness::lane();
  const int from = lane ^ lane_mask;
  return harness::from_bits<T>(harness::shuffle("__shfl_xor_sync", mask, harness::to_bits(value),
                                                from > (lane | (width - 1)) ? lane : from, site));
}
inline unsigned __ballot_sync(unsigned mask, int predicate, harness::Site site = {}) {
  std::uint64_t all[32];
  harness::gather("__ballot_sync", mask, predicate != 0, all, site);
  unsigned ballot = 0;
  for (int i = 0; i < 32; ++i) ballot |= static_cast<unsigned>(all[i]) << i;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate, harness::Site site = {}) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, harness::Site site = {}) {
  return __ballot_sync(mask, predicate, site) == mask;
}
inline unsigned __match_any_sync(unsigned mask, unsigned value, harness::Site site = {}) {
  std::uint64_t all[32];
  harness::gather("__match_any_sync", mask, value, all, site);
  unsigned equal = 0;
  for (int i = 0; i < 32; ++i) equal |= static_cast<unsigned>(all[i] == value) << i;
  return equal & mask;
}

namespace harness {
template <typename T, typename F>
T reduce(const char* name, unsigned mask, T value, F combine, Site site) {
  static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>,
                "__reduce_*_sync take int and unsigned");
  std::uint64_t all[32];
  gather(name, mask, to_bits(value), all, site);
  const int first = std::countr_zero(mask);
  T result = from_bits<T>(all[first]);
  for (int i = first + 1; i < 32; ++i) {
    if (mask >> i & 1u) result = combine(result, from_bits<T>(all[i]));
  }
  return result;
}
}  // namespace harness
template <typename T>
T __reduce_add_sync(unsigned mask, T value, harness::Site site = {}) {
  const auto add = [](T a, T b) {
    return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  };
  return harness::reduce("__reduce_add_sync", mask, value, add, site);
}
template <typename T>
T __reduce_max_sync(unsigned mask, T value, harness::Site site = {}) {
  const auto larger = [](T a, T b) { return std::max(a, b); };
  return harness::reduce("__reduce_max_sync", mask, value, larger, site);
}
template <typename T>
T __reduce_min_sync(unsigned mask, T value, harness::Site site = {}) {
  const auto smaller = [](T a, T b) { return std::min(a, b); };
  return harness::reduce("__reduce_min_sync", mask, value, smaller, site);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value, harness::Site site = {}) {
  return harness::reduce("__reduce_or_sync", mask, value, std::bit_or<unsigned>(), site);
}
inline unsigned __reduce_and_sync(unsigned mask, unsigned value, harness::Site site = {}) {
  return harness::reduce("__reduce_and_sync", mask, value, std::bit_and<unsigned>(), site);
}

// --- Atomics, all relaxed ------------------------------------------------------------------------
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  harness::interleave();
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  harness::interleave();
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  harness::interleave();
  std::atomic_ref<T>(*address).compare_exchange_strong(compare, value, std::memory_order_relaxed);
  return compare;
}
namespace harness {
template <typename T, typename F>
T atomic_update(T* address, F update) {
  interleave();
  std::atomic_ref<T> value(*address);
  T old = value.load(std::memory_order_relaxed);
  while (!value.compare_exchange_weak(old, update(old), std::memory_order_relaxed)) {
  }
  return old;
}
}  // namespace harness
template <typename T>
T atomicSub(T* address, std::type_identity_t<T> value) {
  return harness::atomic_update(address, [&](T old) { return old - value; });
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return harness::atomic_update(address, [&](T old) { return std::max(old, value); });
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return harness::atomic_update(address, [&](T old) { return std::min(old, value); });
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return harness::atomic_update(address, [&](T old) { return old | value; });
}
template <typename T>
T atomicAnd(T* address, std::type_identity_t<T> value) {
  return harness::atomic_update(address, [&](T old) { return old & value; });
}
// Wraps to 0 beyond `last`: leaves a counter as it was found.
inline unsigned atomicInc(unsigned* address, unsigned last) {
  return harness::atomic_update(address, [&](unsigned old) { return old >= last ? 0u : old + 1; });
}

// --- Loads and stores with a cache hint ----------------------------------------------------------
template <typename T>
T __ldg(const T* address) {
  return *address;
}
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
T __ldcg(const T* address) {
  return *address;
}
template <typename T>
T __ldca(const T* address) {
  return *address;
}
template <typename T>
T __ldlu(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
template <typename T>
void __stcg(T* address, std::type_identity_t<T> value) {
  *address = value;
}

// --- Arithmetic ----------------------------------------------------------------------------------
// Exactly rounded or as good as the host's library; the GPU's are less accurate where it says
// "approximate".
using ::acosf, ::atan2f, ::ceilf, ::copysignf, ::cosf, ::erfcf, ::erff, ::exp, ::exp2, ::exp2f,
    ::expf, ::expm1f, ::fabs, ::fabsf, ::floorf, ::fma, ::fmaf, ::fmax, ::fmaxf, ::fmin, ::fminf,
    ::fmodf, ::ldexpf, ::log, ::log1pf, ::log2f, ::logf, ::nearbyintf, ::pow, ::powf, ::rint,
    ::rintf, ::roundf, ::sinf, ::sqrt, ::sqrtf, ::tanhf, ::truncf;
using std::isfinite, std::isinf, std::isnan;

template <typename A, typename B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> max(
    A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmax(static_cast<T>(a), static_cast<T>(b));
  else
    return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}
template <typename A, typename B>
requires(std::is_arithmetic_v<A>&& std::is_arithmetic_v<B>) constexpr std::common_type_t<A, B> min(
    A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmin(static_cast<T>(a), static_cast<T>(b));
  else
    return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / std::sqrt(double{x})); }
namespace harness {
// A result that is rounded before anything else is done with it: no part of a multiply-add.
inline float rounded(float x) {
  asm("" : "+x"(x));
  return x;
}
}  // namespace harness
inline float __fadd_rn(float x, float y) { return harness::rounded(x + y); }
inline float __fmul_rn(float x, float y) { return harness::rounded(x * y); }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __saturatef(float x) { return x > 0.0f ? std::min(x, 1.0f) : 0.0f; }

inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline unsigned __float2uint_rn(float x) { return static_cast<unsigned>(std::nearbyint(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline long long __double2ll_rn(double x) { return std::llrint(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1;
}
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (x >> i & 1u) << (31 - i);
  return reversed;
}
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>(std::uint64_t{x} * y >> 32);
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned chosen = selector >> (4 * i) & 7u;
    result |= static_cast<unsigned>(bytes >> (8 * chosen) & 0xffu) << (8 * i);
  }
  return result;
}

}  // namespace bert::simt
