#include "bench/bench_support.h"

#include <algorithm>

#include "kernels/cpu_module.h"
#include "kernels/cuda_module.h"
#include "runtime/error.h"
#include "runtime/philox.h"
#include "train/profile/random_fill.h"

namespace bert::bench {

Backend open_backend(const BackendChoice& choice) {
  const bool cpu = choice.device == "cpu";
  const std::string precision =
      choice.precision != "auto" ? choice.precision : (cpu ? "fp32" : "bf16");
  if (cpu) {
    if (precision != "fp32" && precision != "bf16") {
      throw_input_error("a CPU is timed in fp32 or bf16, not in {}", precision);
    }
    const DType dtype = precision == "bf16" ? DType::bf16 : DType::f32;
    return {make_cpu_device(), make_cpu_ops({.threads = choice.threads, .dtype = dtype}),
            precision};
  }
  std::string why_not;
  const bool fp8 = precision == "fp8";
  auto cuda = open_cuda_backend({.dtype = fp8 || precision == "bf16" ? DType::bf16 : DType::f32,
                                 .tf32 = precision == "tf32",
                                 .fp8 = fp8},
                                why_not);
  if (!cuda) throw_input_error("--device cuda: {}", why_not);
  return {std::move(cuda->device), std::move(cuda->ops), precision};
}

Tensor Memory::zeros(DType dtype, std::initializer_list<std::int64_t> shape) {
  const Tensor layout(nullptr, dtype, shape);
  buffers_.emplace_back(device_, layout.bytes());
  device_.fill_zero(buffers_.back().data(), layout.bytes());
  return Tensor(buffers_.back().data(), dtype, shape);
}

Tensor Memory::random(std::initializer_list<std::int64_t> shape, float scale, DType dtype) {
  const Tensor tensor = zeros(dtype, shape);
  fill_random(tensor, scale);
  return tensor;
}

void Memory::fill_random(const Tensor& tensor, float scale) {
  bert::fill_random(device_, tensor, scale, ++seed_);
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

Lengths natural_lengths(std::int64_t tokens, std::int64_t length) {
  const std::int64_t n = std::max<std::int64_t>(1, (2 * tokens + length / 2) / length - 1);
  // The k shortest have length * k (k + 1) / 2n tokens, rounded down, and none has none.
  const auto shortest = [&](std::int64_t k) { return length * k * (k + 1) / (2 * n); };
  Lengths sorted;
  for (std::int64_t k = 1; k <= n; ++k) {
    sorted.push_back(std::max<std::int64_t>(1, shortest(k) - shortest(k - 1)));
  }
  Lengths lengths;
  for (std::int64_t i = 0; i < n; ++i) {
    lengths.push_back(sorted[static_cast<std::size_t>(i % 2 == 0 ? i / 2 : n - 1 - i / 2)]);
  }
  return lengths;
}

PackedTokens packed_tokens(Memory& memory, const Lengths& lengths) {
  std::vector<std::int32_t> position, sequence, starts = {0}, index;
  for (const std::int64_t length : lengths) {
    const auto b = static_cast<std::int32_t>(index.size());
    index.push_back(b);
    for (std::int64_t t = 0; t < length; ++t) {
      position.push_back(static_cast<std::int32_t>(t));
      sequence.push_back(b);
    }
    starts.push_back(static_cast<std::int32_t>(position.size()));
  }
  const auto sequences = static_cast<std::int64_t>(lengths.size());
  PackedTokens tokens;
  tokens.position_ids = memory.i32(position);
  tokens.token_sequence = memory.i32(sequence);
  tokens.cu_seqlens = memory.i32(starts);
  const Tensor indices = memory.i32(index);  // small numbers: the same bytes as u32
  tokens.sequence_index = Tensor(indices.raw(), DType::u32, {sequences});
  tokens.num_tokens = memory.value(static_cast<std::int32_t>(position.size()));
  tokens.num_sequences = memory.value(static_cast<std::int32_t>(sequences));
  tokens.max_seqlen = *std::max_element(lengths.begin(), lengths.end());
  return tokens;
}

}  // namespace bert::bench
