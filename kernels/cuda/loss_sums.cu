// Adding up the losses of rows: 8 bytes and two additions a row, so a launch is what it costs. One
// block: each thread adds every 256th row, then the threads by a fixed tree.
#include "kernels/cuda/loss_sums.cuh"
#include "kernels/cuda/reduce.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    add_loss_sums_kernel(const RowResult* __restrict__ results, DeviceCount rows, int per_row,
                         double loss_unit, LossSums* sums) {
  const int count = *rows * per_row;
  double loss = 0.0;
  int counts[2] = {0, 0};  // rows with a target, right answers
  for (int r = static_cast<int>(threadIdx.x); r < count; r += kThreads) {
    const RowResult result = results[r];
    loss += static_cast<double>(result.loss);
    counts[0] += result.kind != RowKind::ignored;
    counts[1] += result.kind == RowKind::correct;
  }
  loss = block_sum(loss);
  block_sum(counts);
  if (threadIdx.x == 0) {
    sums->loss += loss_unit > 0.0 ? rint(loss / loss_unit) * loss_unit : loss;
    sums->count += counts[0];
    sums->correct += counts[1];
  }
}

}  // namespace

void add_loss_sums(const RowResult* results, DeviceCount rows, int per_row, double loss_unit,
                   LossSums* sums, cudaStream_t stream) {
  launch("add_loss_sums_kernel", add_loss_sums_kernel, {.grid = 1, .block = kThreads}, stream,
         results, rows, per_row, loss_unit, sums);
}

}  // namespace bert::BERT_CUDA
