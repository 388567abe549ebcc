// The kernels of product.h, and which of them multiplies what. All sum in f32, in different orders:
// so their results differ in the last bits of f32.
//
//              with tiles    with AVX512-BF16, AMD    otherwise
//   f32        SplitKernel   F32Kernel                F32Kernel     (small ones: F32Kernel)
//   bf16       AmxKernel     DotKernel                F32Kernel<Bfloat16>
//
// Intel's dot products of bf16 are no faster than f32.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cpu/bf16_kernels.h"
#include "kernels/cpu/f32_kernel.h"
#include "kernels/cpu/split_kernel.h"
#include "kernels/cpu/tiles.h"
#include "runtime/bfloat16.h"

namespace bert::cpu {

// Calls body(KernelType<...>()) with the fastest kernel for factors of Real, of which the weight
// has `side` rows or columns, whichever is less.
template <typename Real, typename Body>
void with_kernel([[maybe_unused]] std::int64_t side, Body&& body) {
  // Below it, cutting f32 in three takes longer than tiles save.
  [[maybe_unused]] constexpr std::int64_t kWorthSplitting = 256;
  [[maybe_unused]] constexpr bool kBf16 = std::is_same_v<Real, Bfloat16>;
#if BERT_CPU_TILES
  if (may_use_tiles() && (kBf16 || side >= kWorthSplitting)) {
    body(KernelType<std::conditional_t<kBf16, AmxKernel, SplitKernel>>());
    return;
  }
#endif
#if defined(__AVX512BF16__)
  if (kBf16 && __builtin_cpu_is("amd")) {
    body(KernelType<std::conditional_t<kBf16, DotKernel, F32Kernel<Real>>>());
    return;
  }
#endif
  body(KernelType<F32Kernel<Real>>());
}

}  // namespace bert::cpu
