#include "bench/bench_support.h"

#include <cstring>

#include <omp.h>

#include "kernels/cpu/blas.h"
#include "runtime/philox.h"

namespace bert::bench {

Tensor Memory::zeros(DType dtype, std::initializer_list<std::int64_t> shape) {
  const Tensor layout(nullptr, dtype, shape);
  buffers_.emplace_back(device_, layout.bytes());
  device_.fill_zero(buffers_.back().data(), layout.bytes());
  return Tensor(buffers_.back().data(), dtype, shape);
}

Tensor Memory::random(std::initializer_list<std::int64_t> shape, float scale) {
  const Tensor tensor = zeros(DType::f32, shape);
  std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
  PhiloxStream stream(++seed_, 0, 0);
  for (float& v : values) {
    v = scale * (static_cast<float>(stream.next_u32()) * 0x1.0p-31f - 1.0f);
  }
  device_.copy_from_host(tensor.raw(), values.data(), tensor.bytes());
  return tensor;
}

Tensor Memory::random_ids(std::int64_t n, std::int32_t bound) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(n));
  PhiloxStream stream(++seed_, 0, 0);
  for (std::int32_t& v : values) {
    v = static_cast<std::int32_t>(stream.next_below(static_cast<std::uint32_t>(bound)));
  }
  return i32(values);
}

Tensor Memory::i32(const std::vector<std::int32_t>& values) {
  const Tensor tensor = zeros(DType::i32, {static_cast<std::int64_t>(values.size())});
  device_.copy_from_host(tensor.raw(), values.data(), tensor.bytes());
  return tensor;
}

PackedTokens packed_tokens(Memory& memory, std::int64_t sequences, std::int64_t length) {
  std::vector<std::int32_t> position, sequence, starts, index;
  for (std::int64_t b = 0; b < sequences; ++b) {
    starts.push_back(static_cast<std::int32_t>(b * length));
    index.push_back(static_cast<std::int32_t>(b));
    for (std::int64_t t = 0; t < length; ++t) {
      position.push_back(static_cast<std::int32_t>(t));
      sequence.push_back(static_cast<std::int32_t>(b));
    }
  }
  starts.push_back(static_cast<std::int32_t>(sequences * length));
  PackedTokens tokens;
  tokens.position_ids = memory.i32(position);
  tokens.token_sequence = memory.i32(sequence);
  tokens.cu_seqlens = memory.i32(starts);
  const Tensor indices = memory.i32(index);  // small numbers: the same bytes as u32
  tokens.sequence_index = Tensor(indices.raw(), DType::u32, {sequences});
  tokens.num_tokens = memory.value(static_cast<std::int32_t>(sequences * length));
  tokens.num_sequences = memory.value(static_cast<std::int32_t>(sequences));
  tokens.max_seqlen = length;
  return tokens;
}

Ceilings measure_ceilings(int threads) {
  const std::unique_ptr<Device> device = make_cpu_device();
  Memory memory(*device);
  Ceilings ceilings;
  {
    constexpr std::int64_t n = 2048;
    const Tensor a = memory.random({n, n}), b = memory.random({n, n});
    const Tensor c = memory.zeros(DType::f32, {n, n});
    const double seconds = fastest_seconds(5, [&] {
      cpu::product(threads, false, true, n, n, n, a.data<float>(), b.data<float>(), 0.0f,
                   c.data<float>());
    });
    ceilings.gemm_flops = 2.0 * n * n * n / seconds;
  }
  {
    constexpr std::int64_t bytes = std::int64_t{256} << 20;
    const Tensor from = memory.zeros(DType::u8, {bytes}), to = memory.zeros(DType::u8, {bytes});
    const double seconds = fastest_seconds(3, [&] {
#pragma omp parallel num_threads(threads)
      {
        const std::int64_t part = bytes / threads, begin = part * omp_get_thread_num();
        std::memcpy(to.data<std::uint8_t>() + begin, from.data<std::uint8_t>() + begin,
                    static_cast<std::size_t>(part));
      }
    });
    ceilings.copy_bytes = 2.0 * static_cast<double>(bytes / threads * threads) / seconds;
  }
  return ceilings;
}

}  // namespace bert::bench
