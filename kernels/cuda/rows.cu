// Rows picked out of a matrix, added back, and dropout of them in place. A warp per picked row,
// eight channels a thread at a time. gather_rows and dropout_rows move 2 values of T per element
// (bf16: 4 bytes), scatter_add_rows 3 (6 bytes). dropout_rows calls Philox once for eight of them;
// no arithmetic to speak of in the others: limited by memory, and by what it costs to begin rows
// anywhere.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/hidden_dropout.cuh"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kRowsPerBlock = 4;  // a warp each
constexpr int kThreads = 32 * kRowsPerBlock;

template <class T, bool kVector>
__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(const T* x, const std::int32_t* rows, DeviceCount count,
                       std::int64_t capacity, int channels, T* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
  if (i >= capacity) return;
  const bool valid = i < *count;
  const T* const from = valid ? x + std::int64_t{rows[i]} * channels : nullptr;
  T* const to = y + i * channels;
  for (int c = static_cast<int>(threadIdx.x) % 32 * kGroup; c < channels; c += 32 * kGroup) {
    float values[kGroup] = {};
    if (valid) load_group<kVector>(from, c, channels, values);
    store_group<kVector>(to, c, channels, values);
  }
}

template <class T, bool kVector>
__global__ void __launch_bounds__(kThreads)
    scatter_add_rows_kernel(const T* y, const std::int32_t* rows, DeviceCount count,
                            std::int64_t capacity, int channels, T* x) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / 32;
  if (i >= capacity || i >= *count) return;
  const T* const from = y + i * channels;
  T* const to = x + std::int64_t{rows[i]} * channels;
  for (int c = static_cast<int>(threadIdx.x) % 32 * kGroup; c < channels; c += 32 * kGroup) {
    float values[kGroup], before[kGroup];
    load_group<kVector, Reuse::once>(from, c, channels, values);
    load_group<kVector>(to, c, channels, before);
#pragma unroll
    for (int j = 0; j < kGroup; ++j) values[j] += before[j];
    store_group<kVector>(to, c, channels, values);
  }
}

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

LaunchShape row_grid(std::int64_t rows) {
  return {dim3(static_cast<unsigned>(ceil_div(rows, kRowsPerBlock))), dim3(kThreads)};
}

}  // namespace

void CudaOps::gather_rows(const GatherRows& op) {
  check(op, dtype());
  const std::int64_t capacity = op.y.rows(), channels = op.y.dim(1);
  const bool vector = vector_access(channels, op.x, op.y);
  with_real([&](auto real) {
    using T = decltype(real);
    launch("gather_rows_kernel",
           vector ? gather_rows_kernel<T, true> : gather_rows_kernel<T, false>, row_grid(capacity),
           stream_, op.x.data<T>(), op.rows.data<std::int32_t>(), op.count, capacity,
           static_cast<int>(channels), op.y.data<T>());
  });
}

void CudaOps::scatter_add_rows(const ScatterAddRows& op) {
  check(op, dtype());
  const std::int64_t capacity = op.y.rows(), channels = op.y.dim(1);
  const bool vector = vector_access(channels, op.x, op.y);
  with_real([&](auto real) {
    using T = decltype(real);
    launch("scatter_add_rows_kernel",
           vector ? scatter_add_rows_kernel<T, true> : scatter_add_rows_kernel<T, false>,
           row_grid(capacity), stream_, op.y.data<T>(), op.rows.data<std::int32_t>(), op.count,
           capacity, static_cast<int>(channels), op.x.data<T>());
  });
}

void CudaOps::dropout_rows(const DropoutRows& op) {
  check(op, dtype());
  if (op.dropout.probability == 0.0f) return;
  const std::int64_t capacity = op.x.rows(), channels = op.x.dim(1);
  const bool vector = vector_access(channels, op.x);
  with_real([&](auto real) {
    using T = decltype(real);
    launch("dropout_rows_kernel",
           vector ? dropout_rows_kernel<T, true> : dropout_rows_kernel<T, false>,
           row_grid(capacity), stream_, op.x.data<T>(), op.rows.data<std::int32_t>(), op.count,
           capacity, static_cast<int>(channels), HiddenDropout(op.dropout, op.tokens, channels));
  });
}

}  // namespace bert::BERT_CUDA
