#include "tests/simt/simt_ops.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/float8.h"
#include "tests/simt/naive_gemm.h"

namespace bert::simt {

std::unique_ptr<Ops> make_simt_ops(DType dtype, Device& device, std::unique_ptr<Gemm> gemm,
                                   bool fp8) {
  constexpr int kMultiprocessors = 2;  // few, so that grids are small and blocks have many rows
  return std::make_unique<CudaOps>(dtype, device, nullptr, kMultiprocessors, std::move(gemm), fp8);
}

std::unique_ptr<Ops> make_simt_ops(DType dtype, Device& device, bool fused, bool fp8) {
  return make_simt_ops(dtype, device, make_naive_gemm(fused), fp8);
}

Float8Bytes float8_bytes(const Tensor& x, DeviceCount rows, DType format, bool plain,
                         bool transposed) {
  const Float8Request request{
      .x = x, .rows = rows, .format = format, .plain = plain, .transposed = transposed};
  constexpr std::uint8_t kGuard = 0xA5;
  struct alignas(64) Line {
    std::uint8_t bytes[64];
  };
  std::vector<Line> memory(request.bytes() / sizeof(Line) + 1);
  auto* const first = memory.front().bytes;
  std::fill(first, first + memory.size() * sizeof(Line), kGuard);
  const Float8Copies copies = to_float8(request, first, nullptr);
  const auto bytes_of = [](const Tensor& copy) {
    const auto* const from = static_cast<const std::uint8_t*>(copy.raw());
    return std::vector<std::uint8_t>(from, from + copy.numel());
  };
  Float8Bytes result{.scale = *copies.scale};
  if (plain) result.plain = bytes_of(copies.plain);
  if (transposed) result.transposed = bytes_of(copies.transposed);
  const auto& guard = memory.back().bytes;
  result.wrote_outside =
      std::any_of(guard, guard + sizeof guard, [](std::uint8_t byte) { return byte != kGuard; });
  return result;
}

}  // namespace bert::simt
