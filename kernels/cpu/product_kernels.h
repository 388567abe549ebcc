// Which form and which kernel of product.h multiplies what. All sum in f32, in different orders: so
// their results differ in the last bits of f32.
//
//   m <= 48, both factors along memory:   dot_products (not bf16 where there are tiles)
//   few rows, fewer than columns, the right factor along memory:   product_of_few_rows, in f32
//                                         by tiles (FewRowsSplitKernel) or with an
//                                         F32InPlaceKernel, in bf16 with the kernel below
//   otherwise:                            product_by_steps with
//
//                with tiles                with AVX512-BF16, AMD   otherwise
//       f32      SplitKernel; small ones   F32Kernel               F32Kernel
//                F32Kernel
//       bf16     AmxKernel                 DotKernel               F32Kernel<Bfloat16>
//
// Intel's dot products of bf16 are no faster than f32. All limits were measured on two cores of a
// Xeon with tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "kernels/cpu/bf16_kernels.h"
#include "kernels/cpu/dot_products.h"
#include "kernels/cpu/f32_kernel.h"
#include "kernels/cpu/product.h"
#include "kernels/cpu/split_kernel.h"
#include "kernels/cpu/tiles.h"
#include "runtime/bfloat16.h"

namespace bert::cpu {

// What large products of Real take.
enum class ProductInstructions { fma, bf16_pairs, tiles };
template <typename Real>
ProductInstructions product_instructions() {
#if BERT_CPU_TILES
  if (may_use_tiles()) return ProductInstructions::tiles;
#endif
#if defined(__AVX512BF16__)
  if (std::is_same_v<Real, Bfloat16> && __builtin_cpu_is("amd")) {
    return ProductInstructions::bf16_pairs;
  }
#endif
  return ProductInstructions::fma;
}

// Whether f32 is worth being cut in three. With a shorter side that takes longer than tiles save:
// steps of BERT-tiny, whose side is 128, are faster without; products with 154 masked positions are
// faster with them.
inline bool worth_splitting(std::int64_t m, std::int64_t n, std::int64_t k) {
  return std::min({m, n, k}) >= 144;
}

// Calls body(std::type_identity<...>()) with the kernel for large products.
template <typename Real, typename Body>
void with_kernel([[maybe_unused]] bool split, Body&& body) {
  [[maybe_unused]] const ProductInstructions by = product_instructions<Real>();
  if constexpr (std::is_same_v<Real, Bfloat16>) {
#if BERT_CPU_TILES
    if (by == ProductInstructions::tiles) return body(std::type_identity<AmxKernel>());
#endif
#if defined(__AVX512BF16__)
    if (by == ProductInstructions::bf16_pairs) return body(std::type_identity<DotKernel>());
#endif
  } else {
#if BERT_CPU_TILES
    if (by == ProductInstructions::tiles && split) return body(std::type_identity<SplitKernel>());
#endif
  }
  body(std::type_identity<F32Kernel<Real>>());
}

// The same with the F32InPlaceKernel whose tile m rows fill best, the widest of those.
template <typename Body>
void with_in_place_kernel(std::int64_t m, Body&& body) {
  constexpr std::int64_t kWidest = kLanes == 16 ? 4 : 2;
  std::int64_t best = kWidest;
  for (std::int64_t vectors = kWidest; vectors > 0; --vectors) {
    if (round_up(m, vectors * kLanes) < round_up(m, best * kLanes)) best = vectors;
  }
  switch (best) {
    case 1:
      return body(std::type_identity<F32InPlaceKernel<1>>());
    case 2:
      return body(std::type_identity<F32InPlaceKernel<2>>());
    case 3:
      return body(std::type_identity<F32InPlaceKernel<3>>());
    default:
      return body(std::type_identity<F32InPlaceKernel<4>>());
  }
}

// Whether few f32 rows are faster by tiles: enough of them that cutting the right factor in three
// pays, and no more than lie in a core's cache when they are cut.
inline bool few_rows_by_tiles([[maybe_unused]] std::int64_t m, [[maybe_unused]] std::int64_t k) {
#if BERT_CPU_TILES
  return may_use_tiles() && m >= 72 && m <= 384 && k >= 384 && m * k <= 1 << 18;
#else
  return false;
#endif
}

// The fastest product for these sizes (see product.h).
template <typename Real, typename Finish>
void product(int threads, Scratch& scratch, std::int64_t m, std::int64_t n, std::int64_t k,
             Factor<Real> a, Factor<Real> b, bool accumulate, float* c, Finish&& finish) {
  constexpr std::int64_t kWorthSharing = 64 * 64 * 64;  // below it, waking a thread costs more
  constexpr std::int64_t kFewRows = 256, kFewNumbers = 1 << 19;  // each thread copies those
  constexpr bool kF32 = std::is_same_v<Real, float>;
  const bool tiles = kF32 && few_rows_by_tiles(m, k);
  const bool few = m <= kFewRows && m < n && m * k <= kFewNumbers;
  if (m * n * k <= kWorthSharing) threads = 1;

  if (m <= kMostDotRows && a.lines_along_memory && b.lines_along_memory &&
      (kF32 || product_instructions<Real>() != ProductInstructions::tiles)) {
    dot_products(threads, m, n, k, a, b, accumulate, c, finish);
  } else if (b.lines_along_memory && (tiles ? m <= n : few)) {
    const auto few_rows = [&](auto kernel) {
      product_of_few_rows<typename decltype(kernel)::type>(threads, scratch, m, n, k, a, b,
                                                           accumulate, c, finish);
    };
    if constexpr (kF32) {
#if BERT_CPU_TILES
      if (tiles) return few_rows(std::type_identity<FewRowsSplitKernel>());
#endif
      with_in_place_kernel(m, few_rows);
    } else {
      with_kernel<Real>(false, few_rows);
    }
  } else {
    with_kernel<Real>(worth_splitting(m, n, k), [&](auto kernel) {
      product_by_steps<typename decltype(kernel)::type>(threads, scratch, m, n, k, a, b, accumulate,
                                                        c, finish);
    });
  }
}

}  // namespace bert::cpu
