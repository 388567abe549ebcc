// Dropout of picked rows, in place: a value of T is read and one written per element (bf16: 4
// bytes), one call of Philox for eight of them. A warp per row.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/hidden_dropout.cuh"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kRowsPerBlock = 4;  // a warp each
constexpr int kThreads = 32 * kRowsPerBlock;

template <class T, bool kVector>
__global__ void __launch_bounds__(kThreads)
    dropout_rows_kernel(T* x, const std::int32_t* rows, DeviceCount count, std::int64_t capacity,
                        int channels, HiddenDropout dropout) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
  if (i >= capacity || i >= *count) return;
  const DropoutRow row(dropout, rows[i]);
  T* const to = x + i * channels;
  for (int c = static_cast<int>(threadIdx.x) % 32 * kGroup; c < channels; c += 32 * kGroup) {
    float values[kGroup];
    load_group<kVector>(to, c, channels, values);
    row.apply(c, values);
    store_group<kVector>(to, c, channels, values);
  }
}

}  // namespace

void CudaOps::dropout_rows(const DropoutRows& op) {
  check(op, dtype());
  if (op.dropout.probability == 0.0f) return;
  const std::int64_t capacity = op.x.rows(), channels = op.x.dim(1);
  const bool vector = vector_access(channels, op.x);
  const auto blocks = static_cast<unsigned>((capacity + kRowsPerBlock - 1) / kRowsPerBlock);
  with_real([&](auto real) {
    using T = decltype(real);
    launch("dropout_rows_kernel",
           vector ? dropout_rows_kernel<T, true> : dropout_rows_kernel<T, false>,
           {.grid = blocks, .block = kThreads}, stream_, op.x.data<T>(),
           op.rows.data<std::int32_t>(), op.count, capacity, static_cast<int>(channels),
           HiddenDropout(op.dropout, op.tokens, channels));
  });
}

}  // namespace bert::BERT_CUDA
