// The end of a BERT branch in one pass each way: z = dropout(x + bias) + residual, y =
// LayerNorm(z).
//
// Both ways persistent teams, a warp (a block beyond C = 1024) each, walk over the rows w, w + W,
// ...; a team's next rows are on their way to shared memory while it computes (row_ring.cuh).
//
// Forward: per element 4 values of T moved (x and residual read, z and y written; bf16: 8 bytes),
// about 12 FLOPs and 10 integer operations for the dropout bits, one call of Philox for eight
// elements: limited by memory. gamma and beta are held in registers, bias comes from
// L1. z is rounded to T before its statistics are taken, as backward will read it.
//
// Backward: one block per multiprocessor; column sums of dgamma, dbeta and dbias stay in registers.
// Per element 4 values of T moved (dy and z read, dresidual and dx written; 5 with dz), about 22
// FLOPs and the dropout bits again: limited by memory. A second launch adds up the blocks: 12 C
// bytes for each multiprocessor, from L2.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/hidden_dropout.cuh"
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
using ForwardRing = RowRing<T, Shape, 2, kForwardStages, HiddenDropout::Row>;

template <class T>
struct ForwardArguments {
  const T *x, *residual;
  const float *bias, *gamma, *beta;
  float epsilon;
  HiddenDropout dropout;
  DeviceCount count;
  std::int64_t capacity;
  int channels;
  T *z, *y;
  float *mean, *rstd;
};

template <class T, class Shape>
__global__ void __launch_bounds__(kForwardThreads<Shape>, kForwardBlocks<Shape>)
    bias_dropout_residual_layer_norm_forward_kernel(const __grid_constant__ ForwardArguments<T> a) {
  const int channels = row_channels<Shape>(a.channels);
  const int count = static_cast<int>(*a.count), teams = team_count<Shape>();
  int r = static_cast<int>(team_index<Shape>());
  const T* const inputs[2] = {a.x, a.residual};
  const auto at = [&](int n, int row) { return inputs[n] + std::int64_t{row} * channels; };
  ForwardRing<T, Shape> ring(r, teams, count, channels, at);
  const DropoutKey key = a.dropout.read_key();
  const RowParameter<Shape, false> bias(a.bias, channels);
  const RowParameter<Shape, true> gamma(a.gamma, channels), beta(a.beta, channels);
  for (; r < count; r += teams) {
    ring.advance(r, at);
    const DropoutRow dropout(a.dropout, key,
                             ring.value(r, [&](int row) { return a.dropout.row(row); }));
    const std::int64_t first = std::int64_t{r} * channels;
    float sum[Shape::kGroups][kGroup];
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int c = group_channel<Shape>(g);
      float shift[kGroup], stream[kGroup];
      ring.get(0, g, sum[g]);
      bias.get(g, shift);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) sum[g][i] += shift[i];
      dropout.apply(c, sum[g]);
      ring.get(1, g, stream);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) sum[g][i] += stream[i];
      round_group<T>(sum[g]);
      store_group<Shape::kVector>(a.z + first, c, channels, sum[g]);
    }
    const RowStatistics row = row_statistics<Shape>(sum, channels, a.epsilon);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      float out[kGroup];
      normalize_group(sum[g], gamma, beta, row, g, out);
      store_group<Shape::kVector>(a.y + first, group_channel<Shape>(g), channels, out);
    }
    if (team_thread<Shape>() == 0) {
      a.mean[r] = row.mean;
      a.rstd[r] = row.rstd;
    }
  }
  for (; r < a.capacity; r += teams) {
    zero_row<Shape>(a.z + std::int64_t{r} * channels, channels);
    zero_row<Shape>(a.y + std::int64_t{r} * channels, channels);
  }
}

template <class T>
struct BackwardArguments {
  const T *dy, *dz, *z;
  const float *gamma, *mean, *rstd;
  HiddenDropout dropout;
  DeviceCount count;
  std::int64_t capacity;
  int channels;
  T *dresidual, *dx;
  float* partials;  // [blocks, 3, C]: dgamma, dbeta, dbias
};

template <class T, class Shape>
constexpr int kBackwardThreads = gradient_threads<T, Shape>(3);

struct alignas(16) BackwardRow {
  RowStatistics statistics;
  HiddenDropout::Row dropout;
};
template <class T, class Shape, bool kStream>
using BackwardRing = RowRing<T, Shape, kStream ? 3 : 2, kBackwardStages, BackwardRow>;

// kStream: dz reaches z along the residual stream.
template <class T, class Shape, bool kStream>
__global__ void __launch_bounds__(kBackwardThreads<T, Shape>, 1)
    bias_dropout_residual_layer_norm_backward_kernel(
        const __grid_constant__ BackwardArguments<T> a) {
  const int channels = row_channels<Shape>(a.channels);
  const int count = static_cast<int>(*a.count), teams = team_count<Shape>();
  int r = static_cast<int>(team_index<Shape>());
  const T* const inputs[3] = {a.dy, a.z, a.dz};
  const auto at = [&](int n, int row) { return inputs[n] + std::int64_t{row} * channels; };
  BackwardRing<T, Shape, kStream> ring(r, teams, count, channels, at);
  const DropoutKey key = a.dropout.read_key();
  const RowParameter<Shape, holds_parameter<T, Shape>(3)> gamma(a.gamma, channels);
  float sums[3][Shape::kGroups][kGroup] = {};
  for (; r < count; r += teams) {
    ring.advance(r, at);
    const auto [row, dropout_row] = ring.value(r, [&](int row_of_lane) {
      return BackwardRow{{a.mean[row_of_lane], a.rstd[row_of_lane]}, a.dropout.row(row_of_lane)};
    });
    const std::int64_t first = std::int64_t{r} * channels;
    const RowGradientMeans means =
        row_gradient_means<Shape>([&](int g, float(&values)[kGroup]) { ring.get(0, g, values); },
                                  [&](int g, float(&values)[kGroup]) { ring.get(1, g, values); },
                                  gamma, row, channels, sums[0], sums[1]);
    const DropoutRow dropout(a.dropout, key, dropout_row);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int c = group_channel<Shape>(g);
      float upstream[kGroup], value[kGroup], out[kGroup];
      ring.get(0, g, upstream);
      ring.get(1, g, value);
      row_gradient(upstream, value, gamma, row, means, g, out);
      if constexpr (kStream) {
        ring.get(2, g, value);
#pragma unroll
        for (int i = 0; i < kGroup; ++i) out[i] += value[i];
      }
      store_group<Shape::kVector>(a.dresidual + first, c, channels, out);
      dropout.apply(c, out);
      store_group<Shape::kVector>(a.dx + first, c, channels, out);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) sums[2][g][i] += out[i];
    }
  }
  for (; r < a.capacity; r += teams) {
    zero_row<Shape>(a.dresidual + std::int64_t{r} * channels, channels);
    zero_row<Shape>(a.dx + std::int64_t{r} * channels, channels);
  }
  store_column_sums<Shape, 3>(sums, channels, a.partials);
}

}  // namespace

void CudaOps::bias_dropout_residual_layer_norm_forward(
    const BiasDropoutResidualLayerNormForward& op) {
  check(op, dtype());
  const std::int64_t rows = op.x.rows(), channels = op.x.dim(1);
  const bool vector =
      vector_access(channels, op.x, op.residual, op.z, op.y, op.bias, op.gamma, op.beta);
  with_row_shape(channels, vector, [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      launch("bias_dropout_residual_layer_norm_forward_kernel",
             bias_dropout_residual_layer_norm_forward_kernel<T, Shape>,
             ring_launch<Shape, ForwardRing<T, Shape>>(
                 rows, multiprocessors_ * kForwardBlocks<Shape>, kForwardThreads<Shape>),
             stream_,
             ForwardArguments<T>{
                 op.x.data<T>(), op.residual.data<T>(), op.bias.data<float>(),
                 op.gamma.data<float>(), op.beta.data<float>(), static_cast<float>(op.epsilon),
                 HiddenDropout(op.dropout, op.tokens, channels), op.tokens.num_tokens, rows,
                 static_cast<int>(channels), op.z.data<T>(), op.y.data<T>(), op.mean.data<float>(),
                 op.rstd.data<float>()});
    });
  });
}

void CudaOps::bias_dropout_residual_layer_norm_backward(
    const BiasDropoutResidualLayerNormBackward& op) {
  check(op, dtype());
  const std::int64_t rows = op.dy.rows(), channels = op.dy.dim(1);
  const bool vector = vector_access(channels, op.dy, op.dz, op.z, op.dresidual, op.dx, op.gamma);
  with_row_shape(channels, vector, [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      const auto run = [&](auto kernel, LaunchShape grid) {
        const auto blocks = static_cast<int>(grid.grid.x);
        float* partials = scratch_.reserve<float>(std::int64_t{blocks} * 3 * channels);
        launch("bias_dropout_residual_layer_norm_backward_kernel", kernel,
               with_column_sums<Shape>(grid, channels), stream_,
               BackwardArguments<T>{
                   op.dy.data<T>(), op.dz.data<T>(), op.z.data<T>(), op.gamma.data<float>(),
                   op.mean.data<float>(), op.rstd.data<float>(),
                   HiddenDropout(op.dropout, op.tokens, channels), op.tokens.num_tokens, rows,
                   static_cast<int>(channels), op.dresidual.data<T>(), op.dx.data<T>(), partials});
        ColumnSums<3> sums{};
        float* const to[3] = {op.dgamma.data<float>(), op.dbeta.data<float>(),
                              op.dbias.data<float>()};
        for (int n = 0; n < 3; ++n) {
          sums.add({partials + n * channels, 3 * channels, blocks, to[n]});
        }
        add_column_sums(sums, channels, stream_);
      };
      if (op.dz) {
        run(bias_dropout_residual_layer_norm_backward_kernel<T, Shape, true>,
            ring_launch<Shape, BackwardRing<T, Shape, true>>(rows, multiprocessors_,
                                                             kBackwardThreads<T, Shape>));
      } else {
        run(bias_dropout_residual_layer_norm_backward_kernel<T, Shape, false>,
            ring_launch<Shape, BackwardRing<T, Shape, false>>(rows, multiprocessors_,
                                                              kBackwardThreads<T, Shape>));
      }
    });
  });
}

}  // namespace bert::BERT_CUDA
