// Which form and which kernel of product.h multiplies what. All sum in f32, in different orders: so
// their results differ in the last bits of f32.
//
//                         with tiles     with AVX512-BF16, AMD   otherwise
//   f32                   SplitKernel    F32Kernel               F32Kernel    (small: F32Kernel)
//   bf16                  AmxKernel      DotKernel               F32Kernel<Bfloat16>
//   a handful of rows     dot_products in f32 and, where there are no tiles, in bf16
//   few rows              product_of_few_rows: in f32 F32InPlaceKernel, else with the kernel above
//
// Intel's dot products of bf16 are no faster than f32. The limits were measured on a Xeon with
// tiles.
#pragma once

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

template <typename Kernel>
struct KernelType {
  using type = Kernel;
};

// What large products of Real take.
enum class ProductInstructions { fma, dot_products, tiles };
template <typename Real>
ProductInstructions product_instructions() {
#if BERT_CPU_TILES
  if (may_use_tiles()) return ProductInstructions::tiles;
#endif
#if defined(__AVX512BF16__)
  if (std::is_same_v<Real, Bfloat16> && __builtin_cpu_is("amd")) {
    return ProductInstructions::dot_products;
  }
#endif
  return ProductInstructions::fma;
}

// Whether f32 is worth being cut in three: that takes a time like m k + n k, and adding to the
// result one like m n, where tiles save some of m n k.
inline bool worth_splitting(std::int64_t m, std::int64_t n, std::int64_t k) {
  return 100 * (m * k + n * k + m * n) < m * n * k;
}

// Calls body(KernelType<...>()) with the kernel for large products.
template <typename Real, typename Body>
void with_kernel([[maybe_unused]] bool split, Body&& body) {
  [[maybe_unused]] const ProductInstructions by = product_instructions<Real>();
  if constexpr (std::is_same_v<Real, Bfloat16>) {
#if BERT_CPU_TILES
    if (by == ProductInstructions::tiles) return body(KernelType<AmxKernel>());
#endif
#if defined(__AVX512BF16__)
    if (by == ProductInstructions::dot_products) return body(KernelType<DotKernel>());
#endif
  } else {
#if BERT_CPU_TILES
    if (by == ProductInstructions::tiles && split) return body(KernelType<SplitKernel>());
#endif
  }
  body(KernelType<F32Kernel<Real>>());
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
      return body(KernelType<F32InPlaceKernel<1>>());
    case 2:
      return body(KernelType<F32InPlaceKernel<2>>());
    case 3:
      return body(KernelType<F32InPlaceKernel<3>>());
    default:
      return body(KernelType<F32InPlaceKernel<4>>());
  }
}

// The fastest product for these sizes (see product.h).
template <typename Real, typename Finish>
void product(int threads, Scratch& scratch, std::int64_t m, std::int64_t n, std::int64_t k,
             Factor<Real> a, Factor<Real> b, bool accumulate, float* c, Finish&& finish) {
  constexpr std::int64_t kWorthSharing = 64 * 64 * 64;  // below it, waking a thread costs more
  constexpr std::int64_t kFewRows = 256;
  constexpr bool kF32 = std::is_same_v<Real, float>;
  if (m * n * k <= kWorthSharing) threads = 1;

  if (m <= kMostDotRows && a.lines_along_memory && b.lines_along_memory &&
      (kF32 || product_instructions<Real>() != ProductInstructions::tiles)) {
    dot_products(threads, m, n, k, a, b, accumulate, c, finish);
    return;
  }
  const bool few_rows = m <= kFewRows && m < n && b.lines_along_memory;
  if constexpr (kF32) {
    if (few_rows) {
      with_in_place_kernel(m, [&](auto kernel) {
        product_of_few_rows<typename decltype(kernel)::type>(threads, scratch, m, n, k, a, b,
                                                             accumulate, c, finish);
      });
      return;
    }
  }
  with_kernel<Real>(worth_splitting(m, n, k), [&](auto kernel) {
    using Kernel = typename decltype(kernel)::type;
    if (few_rows) {
      product_of_few_rows<Kernel>(threads, scratch, m, n, k, a, b, accumulate, c, finish);
    } else {
      product_by_steps<Kernel>(threads, scratch, m, n, k, a, b, accumulate, c, finish);
    }
  });
}

}  // namespace bert::cpu
