// The end of a BERT branch in one pass each way: z = dropout(x + bias) + residual, y =
// LayerNorm(z).
//
// Forward: one warp (a block beyond C = 1024) per row. Per element 4 values of T moved (x and
// residual read, z and y written; bf16: 8 bytes), about 12 FLOPs and 10 integer operations for the
// dropout bits, one call of Philox for eight elements: limited by memory. bias, gamma and beta come
// from L1. z is rounded to T before its statistics are taken, as backward will read it.
//
// Backward: one block per multiprocessor, each warp of which walks over the rows w, w + W, ... and
// keeps its column sums of dgamma, dbeta and dbias in registers. Per element 4 values of T moved
// (dy and z read, dresidual and dx written; 5 with dz), about 22 FLOPs and the dropout bits again:
// limited by memory. A second launch adds up the blocks: 12 C bytes for each multiprocessor, from
// L2.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/hidden_dropout.cuh"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kForwardThreads = 256;

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
__global__ void __launch_bounds__(kForwardThreads)
    bias_dropout_residual_layer_norm_forward_kernel(const __grid_constant__ ForwardArguments<T> a) {
  constexpr bool kVector = Shape::kVector;
  const std::int64_t r = team_index<Shape>();
  if (r >= a.capacity) return;  // a whole team; a block of one team never
  T *const z = a.z + r * a.channels, *const y = a.y + r * a.channels;
  if (r >= *a.count) {
    zero_row<Shape>(z, a.channels);
    zero_row<Shape>(y, a.channels);
    return;  // a whole team
  }
  HeldGroup<T, kVector> x[Shape::kGroups], residual[Shape::kGroups];
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    const int c = group_channel<Shape>(g);
    x[g].load(a.x + r * a.channels, c, a.channels);
    residual[g].load(a.residual + r * a.channels, c, a.channels);
  }
  const DropoutRow dropout(a.dropout, r);
  float sum[Shape::kGroups][kGroup];
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    const int c = group_channel<Shape>(g);
    float branch[kGroup], bias[kGroup], stream[kGroup];
    x[g].get(branch);
    load_group<kVector>(a.bias, c, a.channels, bias);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) branch[i] += bias[i];
    dropout.apply(c, branch);
    residual[g].get(stream);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) sum[g][i] = to_float(from_float<T>(branch[i] + stream[i]));
    store_group<kVector>(z, c, a.channels, sum[g]);
  }
  const RowStatistics row = row_statistics<Shape>(sum, a.channels, a.epsilon);
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    const int c = group_channel<Shape>(g);
    float out[kGroup];
    normalize_group<Shape>(sum[g], a.gamma, a.beta, row, c, a.channels, out);
    store_group<kVector>(y, c, a.channels, out);
  }
  if (team_thread<Shape>() == 0) {
    a.mean[r] = row.mean;
    a.rstd[r] = row.rstd;
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

template <class T, class Shape, bool kStream>
constexpr int kBackwardThreads = backward_threads<T, Shape, 3, kStream ? 3 : 2>();

// kStream: dz reaches z along the residual stream.
template <class T, class Shape, bool kStream>
__global__ void __launch_bounds__(kBackwardThreads<T, Shape, kStream>, 1)
    bias_dropout_residual_layer_norm_backward_kernel(
        const __grid_constant__ BackwardArguments<T> a) {
  constexpr bool kVector = Shape::kVector;
  const std::int64_t count = *a.count;
  const std::int64_t teams = std::int64_t{gridDim.x} * teams_per_block<Shape>();
  float sums[3][Shape::kGroups][kGroup] = {};
  for (std::int64_t r = team_index<Shape>(); r < a.capacity; r += teams) {
    const std::int64_t first = r * a.channels;
    if (r >= count) {
      zero_row<Shape>(a.dresidual + first, a.channels);
      zero_row<Shape>(a.dx + first, a.channels);
      continue;
    }
    HeldGroup<T, kVector> dy[Shape::kGroups], z[Shape::kGroups], dz[Shape::kGroups];
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int c = group_channel<Shape>(g);
      dy[g].load(a.dy + first, c, a.channels);
      z[g].load(a.z + first, c, a.channels);
      if constexpr (kStream) dz[g].load(a.dz + first, c, a.channels);
    }
    const RowStatistics row{a.mean[r], a.rstd[r]};
    const DropoutRow dropout(a.dropout, r);
    const RowGradientMeans means =
        row_gradient_means<Shape>([&](int g, float(&values)[kGroup]) { dy[g].get(values); },
                                  [&](int g, float(&values)[kGroup]) { z[g].get(values); }, a.gamma,
                                  row, a.channels, sums[0], sums[1]);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int c = group_channel<Shape>(g);
      float upstream[kGroup], value[kGroup], out[kGroup];
      dy[g].get(upstream);
      z[g].get(value);
      row_gradient<Shape>(upstream, value, a.gamma, row, means, c, a.channels, out);
      if constexpr (kStream) {
        dz[g].get(value);
#pragma unroll
        for (int i = 0; i < kGroup; ++i) out[i] += value[i];
      }
      store_group<kVector>(a.dresidual + first, c, a.channels, out);
      dropout.apply(c, out);
      store_group<kVector>(a.dx + first, c, a.channels, out);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) sums[2][g][i] += out[i];
    }
  }
  store_column_sums<Shape, 3>(sums, a.channels, a.partials);
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
      const std::int64_t teams = kForwardThreads / Shape::kTeam;
      launch("bias_dropout_residual_layer_norm_forward_kernel",
             bias_dropout_residual_layer_norm_forward_kernel<T, Shape>,
             {dim3(static_cast<unsigned>((rows + teams - 1) / teams)), dim3(kForwardThreads)},
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
      const bool stream = static_cast<bool>(op.dz);
      const PersistentGrid grid = persistent_grid<Shape>(
          rows, multiprocessors_,
          stream ? kBackwardThreads<T, Shape, true> : kBackwardThreads<T, Shape, false>);
      float* partials = scratch_.reserve<float>(std::int64_t{grid.blocks} * 3 * channels);
      launch("bias_dropout_residual_layer_norm_backward_kernel",
             stream ? bias_dropout_residual_layer_norm_backward_kernel<T, Shape, true>
                    : bias_dropout_residual_layer_norm_backward_kernel<T, Shape, false>,
             {dim3(static_cast<unsigned>(grid.blocks)), dim3(static_cast<unsigned>(grid.threads)),
              column_sums_shared_bytes<Shape>(grid.threads, channels)},
             stream_,
             BackwardArguments<T>{
                 op.dy.data<T>(), op.dz.data<T>(), op.z.data<T>(), op.gamma.data<float>(),
                 op.mean.data<float>(), op.rstd.data<float>(),
                 HiddenDropout(op.dropout, op.tokens, channels), op.tokens.num_tokens, rows,
                 static_cast<int>(channels), op.dresidual.data<T>(), op.dx.data<T>(), partials});
      ColumnSums<3> sums{};
      float* const to[3] = {op.dgamma.data<float>(), op.dbeta.data<float>(),
                            op.dbias.data<float>()};
      for (int n = 0; n < 3; ++n) {
        sums.add({partials + n * channels, 3 * channels, grid.blocks, to[n]});
      }
      add_column_sums(sums, channels, stream_);
    });
  });
}

}  // namespace bert::BERT_CUDA
