// AVX-512, AVX512-BF16 and AMX tiles for processors that have none of them: what kernels/cpu is
// made of for its highest level, done by instructions of AVX2. A source that is compiled with this
// header ahead of everything else (-include) believes that its target has them. Registers of 512
// bits are two of 256 to the compiler; what kernels/cpu asks for by an intrinsic's name has a
// function here, and what it comes to ask for needs another.
//
// The numbers are those of Intel's manual ("Intel 64 and IA-32 Architectures Software Developer's
// Manual", volume 2), down to the order of sums. There are two kinds of processors of that level,
// with tiles and with fast products of pairs; BERT_EMULATED_TILES says which
// emulated_instructions.cpp is compiled for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/x86_intrinsics.h"

#if defined(__AVX512F__) || defined(__AMX_TILE__)
#error "compiled for a processor that needs no emulation"
#endif

namespace bert::emulated {

typedef std::uint64_t U64x8 __attribute__((vector_size(64)));
typedef std::uint32_t U32x16 __attribute__((vector_size(64)));
typedef std::uint16_t U16x16 __attribute__((vector_size(32)));
typedef float F32x16 __attribute__((vector_size(64)));

inline __m512i set1_epi32(int x) {
  return reinterpret_cast<__m512i>(U32x16{} + static_cast<std::uint32_t>(x));
}
inline __m512i set1_epi64(long long x) {
  return reinterpret_cast<__m512i>(U64x8{} + static_cast<std::uint64_t>(x));
}
inline __m512i mul_epu32(__m512i a, __m512i b) {
  constexpr std::uint64_t kLow = 0xFFFFFFFFu;
  return reinterpret_cast<__m512i>((reinterpret_cast<U64x8>(a) & kLow) *
                                   (reinterpret_cast<U64x8>(b) & kLow));
}
inline __m512i cvtepu16_epi32(__m256i x) {
  return reinterpret_cast<__m512i>(__builtin_convertvector(reinterpret_cast<U16x16>(x), U32x16));
}
__m512 sqrt_ps(__m512 x);
// To the nearest, ties to even; what is below 2^-126 is zero.
__m256bh cvtneps_pbh(__m512 x);
// sum + the products of both pairs of bf16, the upper numbers' first.
__m512 dpbf16_ps(__m512 sum, __m512bh a, __m512bh b);

// Tiles as kernels/cpu/tiles.h configures them: eight of 16 lines of 64 bytes, a thread's own.
// Without a configuration each of these ends the program; what was not loaded yet is not a number.
void tile_loadconfig(const void* shape);
void tile_release();
void tile_zero(int tile);
void tile_loadd(int tile, const void* from, std::size_t bytes_a_line);
void tile_stored(int tile, void* to, std::size_t bytes_a_line);
void tile_dpbf16ps(int sums, int rows, int columns);

}  // namespace bert::emulated

#define _mm512_set1_epi32 bert::emulated::set1_epi32
#define _mm512_set1_epi64 bert::emulated::set1_epi64
#define _mm512_mul_epu32 bert::emulated::mul_epu32
#define _mm512_cvtepu16_epi32 bert::emulated::cvtepu16_epi32
#define _mm512_sqrt_ps bert::emulated::sqrt_ps
#define _mm512_cvtneps_pbh bert::emulated::cvtneps_pbh
#define _mm512_dpbf16_ps bert::emulated::dpbf16_ps

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig bert::emulated::tile_loadconfig
#define _tile_release bert::emulated::tile_release
#define _tile_zero bert::emulated::tile_zero
#define _tile_loadd bert::emulated::tile_loadd
#define _tile_stored bert::emulated::tile_stored
#define _tile_dpbf16ps bert::emulated::tile_dpbf16ps

#define __AVX512F__ 1
#define __AVX512BF16__ 1
#define __AMX_BF16__ 1

// kernels/cpu asks for nothing but the vendor, whose products of pairs are fast.
#define __builtin_cpu_is(vendor) true
