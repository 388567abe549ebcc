// The squared error of one number a row: an element each of predictions and targets is read, a row
// of predictions written, 3 FLOPs; with a row for each sequence a launch is what it costs. A thread
// a row; the losses are added up by a second launch (loss_sums.cuh).
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/loss_sums.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kThreads = 128;

// grid: a thread for each of the capacity's rows. predictions [R, columns]; row_loss [R] or null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    squared_error_kernel(T* __restrict__ predictions, const float* __restrict__ targets,
                         DeviceCount rows, const double* __restrict__ loss_scale,
                         RowResult* __restrict__ results, float* __restrict__ row_loss,
                         std::int64_t capacity, int columns) {
  const std::int64_t r = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (r >= capacity) return;
  T* const row = predictions + r * columns;
  const bool valid = r < *rows;
  const float error = valid ? to_float(row[0]) - targets[r] : 0.0f;
  store_result({error * error, valid ? RowKind::counted : RowKind::ignored}, r, results, row_loss);
  if (loss_scale == nullptr) return;
  row[0] = from_float<T>(valid ? 2.0f * error * static_cast<float>(*loss_scale) : 0.0f);
  for (int c = 1; c < columns; ++c) row[c] = from_float<T>(0.0f);
}

}  // namespace

void CudaOps::squared_error(const SquaredError& op) {
  check(op, dtype());
  const std::int64_t capacity = op.predictions.rows();
  auto* const results = scratch_.reserve<RowResult>(capacity);
  const auto blocks = static_cast<unsigned>(ceil_div(capacity, kThreads));
  with_real([&](auto real) {
    using T = decltype(real);
    launch("squared_error_kernel", squared_error_kernel<T>, {.grid = blocks, .block = kThreads},
           stream_, op.predictions.data<T>(), op.targets.data<float>(), op.rows, op.loss_scale,
           results, op.row_loss ? op.row_loss.data<float>() : nullptr, capacity,
           static_cast<int>(op.predictions.dim(1)));
  });
  add_loss_sums(results, op.rows, 1, op.loss_unit, op.sums, stream_);
}

}  // namespace bert::BERT_CUDA
