// LayerNorm; equations of docs/derivations/layer_norm.md.
//
// Forward: one warp (a block beyond C = 1024) per row, which it reads once into registers. Per
// element 2 values of T moved (bf16: 4 bytes) and about 8 FLOPs: limited by memory. gamma and beta
// come from L1 (8 bytes an element, shared by all rows of a multiprocessor).
//
// Backward: one block per multiprocessor, each warp of which walks over the rows w, w + W, ... and
// keeps its column sums of dgamma and dbeta in registers. Per element 3 values of T moved (bf16: 6
// bytes; 8 where dx accumulates) and about 17 FLOPs: limited by memory. A second launch adds up the
// blocks: 8 C bytes for each multiprocessor, from L2.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kForwardThreads = 256;

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
__global__ void __launch_bounds__(kForwardThreads)
    layer_norm_forward_kernel(const __grid_constant__ ForwardArguments<T> a) {
  const std::int64_t r = team_index<Shape>();
  if (r >= a.capacity) return;  // a whole team; a block of one team never
  T* const y = a.y + r * a.channels;
  if (r >= *a.count) {
    zero_row<Shape>(y, a.channels);
    return;  // a whole team
  }
  const T* const from = a.x + r * a.channels;
  float x[Shape::kGroups][kGroup];
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    load_group<Shape::kVector, Reuse::once>(from, group_channel<Shape>(g), a.channels, x[g]);
  }
  const RowStatistics row = row_statistics<Shape>(x, a.channels, a.epsilon);
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    const int c = group_channel<Shape>(g);
    float out[kGroup];
    normalize_group<Shape>(x[g], a.gamma, a.beta, row, c, a.channels, out);
    store_group<Shape::kVector>(y, c, a.channels, out);
  }
  if (team_thread<Shape>() == 0) {
    a.mean[r] = row.mean;
    a.rstd[r] = row.rstd;
  }
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

template <class T, class Shape, bool kAccumulate>
__global__ void __launch_bounds__(backward_threads<T, Shape, 2, 2>(), 1)
    layer_norm_backward_kernel(const __grid_constant__ BackwardArguments<T> a) {
  const std::int64_t count = *a.count;
  const std::int64_t teams = std::int64_t{gridDim.x} * teams_per_block<Shape>();
  float sums[2][Shape::kGroups][kGroup] = {};
  for (std::int64_t r = team_index<Shape>(); r < a.capacity; r += teams) {
    T* const dx = a.dx + r * a.channels;
    if (r >= count) {
      if constexpr (!kAccumulate) zero_row<Shape>(dx, a.channels);
      continue;
    }
    HeldGroup<T, Shape::kVector> dy[Shape::kGroups], x[Shape::kGroups];
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      dy[g].load(a.dy + r * a.channels, group_channel<Shape>(g), a.channels);
      x[g].load(a.x + r * a.channels, group_channel<Shape>(g), a.channels);
    }
    const RowStatistics row{a.mean[r], a.rstd[r]};
    const RowGradientMeans means =
        row_gradient_means<Shape>([&](int g, float(&values)[kGroup]) { dy[g].get(values); },
                                  [&](int g, float(&values)[kGroup]) { x[g].get(values); }, a.gamma,
                                  row, a.channels, sums[0], sums[1]);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int c = group_channel<Shape>(g);
      float upstream[kGroup], value[kGroup], out[kGroup];
      dy[g].get(upstream);
      x[g].get(value);
      row_gradient<Shape>(upstream, value, a.gamma, row, means, c, a.channels, out);
      if constexpr (kAccumulate) {
        float before[kGroup];
        load_group<Shape::kVector>(dx, c, a.channels, before);
#pragma unroll
        for (int i = 0; i < kGroup; ++i) out[i] += before[i];
      }
      store_group<Shape::kVector>(dx, c, a.channels, out);
    }
  }
  store_column_sums<Shape, 2>(sums, a.channels, a.partials);
}

}  // namespace

void CudaOps::layer_norm_forward(const LayerNormForward& op) {
  check(op, dtype());
  const std::int64_t rows = op.x.rows(), channels = op.x.dim(1);
  with_row_shape(channels, vector_access(channels, op.x, op.y, op.gamma, op.beta), [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      const std::int64_t teams = kForwardThreads / Shape::kTeam;
      launch("layer_norm_forward_kernel", layer_norm_forward_kernel<T, Shape>,
             {dim3(static_cast<unsigned>((rows + teams - 1) / teams)), dim3(kForwardThreads)},
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
      const PersistentGrid grid =
          persistent_grid<Shape>(rows, multiprocessors_, backward_threads<T, Shape, 2, 2>());
      float* partials = scratch_.reserve<float>(std::int64_t{grid.blocks} * 2 * channels);
      launch("layer_norm_backward_kernel",
             op.accumulate_dx ? layer_norm_backward_kernel<T, Shape, true>
                              : layer_norm_backward_kernel<T, Shape, false>,
             {dim3(static_cast<unsigned>(grid.blocks)), dim3(static_cast<unsigned>(grid.threads)),
              column_sums_shared_bytes<Shape>(grid.threads, channels)},
             stream_,
             BackwardArguments<T>{op.dy.data<T>(), op.x.data<T>(), op.gamma.data<float>(),
                                  op.mean.data<float>(), op.rstd.data<float>(), op.rows, rows,
                                  static_cast<int>(channels), op.dx.data<T>(), partials});
      ColumnSums<2> sums{};
      sums.add({partials, 2 * channels, grid.blocks, op.dgamma.data<float>()});
      sums.add({partials + channels, 2 * channels, grid.blocks, op.dbeta.data<float>()});
      add_column_sums(sums, channels, stream_);
    });
  });
}

}  // namespace bert::BERT_CUDA
