// Rows of f32 or bf16 read and written as floats, 16 bytes an instruction.
#pragma once

#include <type_traits>

#include "kernels/cuda/intrinsics.cuh"

namespace bert::BERT_CUDA {

// How many T one 16-byte access holds.
template <class T>
inline constexpr int kVec = 16 / static_cast<int>(sizeof(T));

// How many numbers of a row a thread has at a time: one group of dropout bits.
inline constexpr int kGroup = 8;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return x;
  }
}

// What the cache is told. `once`: read or written once, so that it need not be kept.
enum class Reuse { likely, once };

namespace detail {
__device__ __forceinline__ void check_vector([[maybe_unused]] const void* address) {
#ifdef BERT_SIMT
  harness::check_aligned(address, 16, "a vector access");
#endif
}
template <Reuse kReuse>
__device__ __forceinline__ uint4 load_16_bytes(const uint4* from) {
  check_vector(from);
  if constexpr (kReuse == Reuse::once) {
    return __ldcs(from);
  } else {
    return *from;
  }
}
template <Reuse kReuse>
__device__ __forceinline__ void store_16_bytes(uint4* to, uint4 value) {
  check_vector(to);
  if constexpr (kReuse == Reuse::once) {
    __stcs(to, value);
  } else {
    *to = value;
  }
}
}  // namespace detail

// values = from[0 .. N-1], N a multiple of kVec<T>, `from` 16-byte aligned. kGroup suits both
// types.
template <Reuse kReuse = Reuse::likely, class T, int N>
__device__ __forceinline__ void load_floats(const T* from, float (&values)[N]) {
  static_assert(N % kVec<T> == 0);
#pragma unroll
  for (int i = 0; i < N; i += kVec<T>) {
    const uint4 raw = detail::load_16_bytes<kReuse>(reinterpret_cast<const uint4*>(from + i));
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        const float2 pair = unpack_bf16(words[w]);
        values[i + 2 * w] = pair.x;
        values[i + 2 * w + 1] = pair.y;
      } else {
        static_assert(std::is_same_v<T, float>);
        values[i + w] = __uint_as_float(words[w]);
      }
    }
  }
}

// to[0 .. N-1] = values, rounded to T.
template <Reuse kReuse = Reuse::likely, class T, int N>
__device__ __forceinline__ void store_floats(T* to, const float (&values)[N]) {
  static_assert(N % kVec<T> == 0);
#pragma unroll
  for (int i = 0; i < N; i += kVec<T>) {
    unsigned words[4];
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        words[w] = pack_bf16(values[i + 2 * w], values[i + 2 * w + 1]);
      } else {
        static_assert(std::is_same_v<T, float>);
        words[w] = __float_as_uint(values[i + w]);
      }
    }
    detail::store_16_bytes<kReuse>(reinterpret_cast<uint4*>(to + i),
                                   make_uint4(words[0], words[1], words[2], words[3]));
  }
}

}  // namespace bert::BERT_CUDA
