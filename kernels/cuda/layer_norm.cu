// LayerNorm; equations of docs/derivations/layer_norm.md.
//
// Both ways persistent teams, a warp (a block beyond C = 1024) each, walk over the rows w, w + W,
// ...; a team's next rows are on their way to shared memory while it computes (row_ring.cuh).
//
// Forward: per element 2 values of T moved (bf16: 4 bytes) and about 8 FLOPs: limited by memory.
// gamma and beta are held in registers.
//
// Backward: one block per multiprocessor; column sums of dgamma and dbeta stay in registers. Per
// element 3 values of T moved (bf16: 6 bytes; 8 where dx accumulates) and about 17 FLOPs: limited
// by memory. A second launch adds up the blocks: 8 C bytes for each multiprocessor, from L2.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/cuda/row_ring.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

// Rows of a team in shared memory: the present one and those on their way.
constexpr int kForwardStages = 3, kBackwardStages = 3;

template <class Shape>
constexpr int kForwardThreads = Shape::kTeam > 128 ? Shape::kTeam : 128;
// Blocks of a multiprocessor.
template <class Shape>
constexpr int kForwardBlocks = std::max(1, row_threads<Shape>(3, 40) / kForwardThreads<Shape>);
template <class T, class Shape>
using ForwardRing = RowRing<T, Shape, 1, kForwardStages, NoRowValue>;

template <class T>
struct ForwardArguments {
  const T* x;
  const float *gamma, *beta;
  float epsilon;
  DeviceCount count;
  std::int64_t capacity;
  int channels;
  T* y;
  float *mean, *rstd;
};

template <class T, class Shape>
__global__ void __launch_bounds__(kForwardThreads<Shape>, kForwardBlocks<Shape>)
    layer_norm_forward_kernel(const __grid_constant__ ForwardArguments<T> a) {
  const int channels = row_channels<Shape>(a.channels);
  const int count = static_cast<int>(*a.count), teams = team_count<Shape>();
  int r = static_cast<int>(team_index<Shape>());
  const auto at = [&](int, int row) { return a.x + std::int64_t{row} * channels; };
  ForwardRing<T, Shape> ring(r, teams, count, channels, at);
  const RowParameter<Shape, true> gamma(a.gamma, channels), beta(a.beta, channels);
  for (; r < count; r += teams) {
    ring.advance(r, at);
    T* const y = a.y + std::int64_t{r} * channels;
    float x[Shape::kGroups][kGroup];
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) ring.get(0, g, x[g]);
    const RowStatistics row = row_statistics<Shape>(x, channels, a.epsilon);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      float out[kGroup];
      normalize_group(x[g], gamma, beta, row, g, out);
      store_group<Shape::kVector>(y, group_channel<Shape>(g), channels, out);
    }
    if (team_thread<Shape>() == 0) {
      a.mean[r] = row.mean;
      a.rstd[r] = row.rstd;
    }
  }
  for (; r < a.capacity; r += teams) zero_row<Shape>(a.y + std::int64_t{r} * channels, channels);
}

template <class T>
struct BackwardArguments {
  const T *dy, *x;
  const float *gamma, *mean, *rstd;
  DeviceCount count;
  std::int64_t capacity;
  int channels;
  T* dx;
  float* partials;  // [blocks, 2, C]: dgamma, dbeta
};

template <class T, class Shape>
constexpr int kBackwardThreads = gradient_threads<T, Shape>(2);
// Where dx accumulates, what it holds is the third tensor.
template <class T, class Shape, bool kAccumulate>
using BackwardRing = RowRing<T, Shape, kAccumulate ? 3 : 2, kBackwardStages, RowStatistics>;

template <class T, class Shape, bool kAccumulate>
__global__ void __launch_bounds__(kBackwardThreads<T, Shape>, 1)
    layer_norm_backward_kernel(const __grid_constant__ BackwardArguments<T> a) {
  const int channels = row_channels<Shape>(a.channels);
  const int count = static_cast<int>(*a.count), teams = team_count<Shape>();
  int r = static_cast<int>(team_index<Shape>());
  const T* const inputs[3] = {a.dy, a.x, a.dx};
  const auto at = [&](int n, int row) { return inputs[n] + std::int64_t{row} * channels; };
  BackwardRing<T, Shape, kAccumulate> ring(r, teams, count, channels, at);
  const RowParameter<Shape, !kAccumulate && holds_parameter<T, Shape>(2)> gamma(a.gamma, channels);
  float sums[2][Shape::kGroups][kGroup] = {};
  for (; r < count; r += teams) {
    ring.advance(r, at);
    const RowStatistics row = ring.value(r, [&](int row_of_lane) {
      return RowStatistics{a.mean[row_of_lane], a.rstd[row_of_lane]};
    });
    T* const dx = a.dx + std::int64_t{r} * channels;
    const RowGradientMeans means =
        row_gradient_means<Shape>([&](int g, float(&values)[kGroup]) { ring.get(0, g, values); },
                                  [&](int g, float(&values)[kGroup]) { ring.get(1, g, values); },
                                  gamma, row, channels, sums[0], sums[1]);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      float upstream[kGroup], value[kGroup], out[kGroup];
      ring.get(0, g, upstream);
      ring.get(1, g, value);
      row_gradient(upstream, value, gamma, row, means, g, out);
      if constexpr (kAccumulate) {
        ring.get(2, g, value);
#pragma unroll
        for (int i = 0; i < kGroup; ++i) out[i] += value[i];
      }
      store_group<Shape::kVector>(dx, group_channel<Shape>(g), channels, out);
    }
  }
  if constexpr (!kAccumulate) {
    for (; r < a.capacity; r += teams) zero_row<Shape>(a.dx + std::int64_t{r} * channels, channels);
  }
  store_column_sums<Shape, 2>(sums, channels, a.partials);
}

}  // namespace

void CudaOps::layer_norm_forward(const LayerNormForward& op) {
  check(op, dtype());
  const std::int64_t rows = op.x.rows(), channels = op.x.dim(1);
  with_row_shape(channels, vector_access(channels, op.x, op.y, op.gamma, op.beta), [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      launch("layer_norm_forward_kernel", layer_norm_forward_kernel<T, Shape>,
             ring_launch<Shape, ForwardRing<T, Shape>>(
                 rows, multiprocessors_ * kForwardBlocks<Shape>, kForwardThreads<Shape>),
             stream_,
             ForwardArguments<T>{op.x.data<T>(), op.gamma.data<float>(), op.beta.data<float>(),
                                 static_cast<float>(op.epsilon), op.rows, rows,
                                 static_cast<int>(channels), op.y.data<T>(), op.mean.data<float>(),
                                 op.rstd.data<float>()});
    });
  });
}

void CudaOps::layer_norm_backward(const LayerNormBackward& op) {
  check(op, dtype());
  const std::int64_t rows = op.x.rows(), channels = op.x.dim(1);
  with_row_shape(channels, vector_access(channels, op.dy, op.x, op.dx, op.gamma), [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      const auto run = [&](auto kernel, LaunchShape grid) {
        const auto blocks = static_cast<int>(grid.grid.x);
        float* partials = scratch_.reserve<float>(std::int64_t{blocks} * 2 * channels);
        launch("layer_norm_backward_kernel", kernel, with_column_sums<Shape>(grid, channels),
               stream_,
               BackwardArguments<T>{op.dy.data<T>(), op.x.data<T>(), op.gamma.data<float>(),
                                    op.mean.data<float>(), op.rstd.data<float>(), op.rows, rows,
                                    static_cast<int>(channels), op.dx.data<T>(), partials});
        ColumnSums<2> sums{};
        sums.add({partials, 2 * channels, blocks, op.dgamma.data<float>()});
        sums.add({partials + channels, 2 * channels, blocks, op.dbeta.data<float>()});
        add_column_sums(sums, channels, stream_);
      };
      if (op.accumulate_dx) {
        run(layer_norm_backward_kernel<T, Shape, true>,
            ring_launch<Shape, BackwardRing<T, Shape, true>>(rows, multiprocessors_,
                                                             kBackwardThreads<T, Shape>));
      } else {
        run(layer_norm_backward_kernel<T, Shape, false>,
            ring_launch<Shape, BackwardRing<T, Shape, false>>(rows, multiprocessors_,
                                                              kBackwardThreads<T, Shape>));
      }
    });
  });
}

}  // namespace bert::BERT_CUDA
