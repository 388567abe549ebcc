// Embeddings: y = dropout(LayerNorm(word + position + type)), or without LayerNorm.
//
// Persistent teams, a warp (a block beyond C = 1024) each, walk over the tokens w, w + W, ...; the
// rows of the word and position tables for a team's next tokens are on their way to shared memory
// while it computes (row_ring.cuh). The few rows of the type table come from L1.
//
// Forward: one launch. Per element 1 value of T read from the word table and 1 written (bf16: 4
// bytes; positions come from L2), 10 FLOPs and 10 integer operations for the dropout bits: limited
// by memory.
//
// Backward, seven launches:
// 1. dy becomes de, the gradient of the sum, in place, and dgamma and dbeta are summed on the way
//    (as in layer_norm.cu): 3 values of T moved. Not needed without LayerNorm and dropout.
// 2., 3. tokens sorted by word (token_sort.cuh): 16 bytes a token.
// 4., 5. dword: 1 value of T read, and 8 bytes for each element of each distinct word.
// 6. dposition, and dtype by position: 1 value of T read.
// 7. dgamma, dbeta and dtype from their partial sums.
// In bf16 about 10 bytes an element, and 8 C bytes per distinct word: limited by memory.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/embedding_tables.cuh"
#include "kernels/cuda/hidden_dropout.cuh"
#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/cuda/row_ring.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

// Rows of a team in shared memory: the present one and those on their way.
constexpr int kForwardStages = 3, kBackwardStages = 3;

constexpr int kDropoutThreads = 256;
template <class Shape>
constexpr int kForwardThreads = Shape::kTeam > 128 ? Shape::kTeam : 128;
// Blocks of a multiprocessor.
template <class T, class Shape>
constexpr int kForwardBlocks = std::max(1, row_threads<Shape>(3, sizeof(T) == 2 ? 40 : 80) /
                                               kForwardThreads<Shape>);

// What both directions embed with.
template <class T>
struct Tables {
  template <class Op>
  explicit Tables(const Op& op)
      : word_ids(op.input_ids.template data<std::int32_t>()),
        position_ids(op.tokens.position_ids.template data<std::int32_t>()),
        type_ids(op.token_type_ids.template data<std::int32_t>()),
        word(op.word.template data<T>()),
        position(op.position.template data<T>()),
        type(op.type.template data<T>()) {}

  const std::int32_t *word_ids, *position_ids, *type_ids;
  const T *word, *position, *type;
};

// What a token needs besides channels.
struct alignas(8) TokenRow {
  std::int32_t type;
  HiddenDropout::Row dropout;
  RowStatistics statistics;  // for backward
};
template <class T, class Shape>
using ForwardRing = RowRing<T, Shape, 2, kForwardStages, TokenRow>;
template <class T, class Shape>
using BackwardRing = RowRing<T, Shape, 3, kBackwardStages, TokenRow>;

// Rows of the tables by token, for a ring.
template <class T>
__device__ __forceinline__ const T* word_row(const Tables<T>& tables, int r, int channels) {
  return tables.word + std::int64_t{tables.word_ids[r]} * channels;
}
template <class T>
__device__ __forceinline__ const T* position_row(const Tables<T>& tables, int r, int channels) {
  return tables.position + std::int64_t{tables.position_ids[r]} * channels;
}

// e = group g of the present token's sum of three rows; the word's and the position's are the
// ring's n and n + 1.
template <class Shape, class T, class Ring>
__device__ __forceinline__ void embed_group(const Ring& ring, int n, const T* type, int g,
                                            int channels, float (&e)[kGroup]) {
  float of_position[kGroup], of_type[kGroup];
  ring.get(n, g, e);
  ring.get(n + 1, g, of_position);
  load_group<Shape::kVector>(type, group_channel<Shape>(g), channels, of_type);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) e[i] = (e[i] + of_position[i]) + of_type[i];
}

template <class T>
struct ForwardArguments {
  Tables<T> tables;
  const float *gamma, *beta;
  float epsilon;
  HiddenDropout dropout;
  DeviceCount count;
  std::int64_t capacity;
  int channels;
  T* y;
  float *mean, *rstd;
};

template <class T, class Shape, bool kNorm>
__global__ void __launch_bounds__(kForwardThreads<Shape>, kForwardBlocks<T, Shape>)
    embeddings_forward_kernel(const __grid_constant__ ForwardArguments<T> a) {
  const int channels = row_channels<Shape>(a.channels);
  const int count = static_cast<int>(*a.count), teams = team_count<Shape>();
  int r = static_cast<int>(team_index<Shape>());
  const auto at = [&](int n, int row) {
    return n == 0 ? word_row(a.tables, row, channels) : position_row(a.tables, row, channels);
  };
  ForwardRing<T, Shape> ring(r, teams, count, channels, at);
  const DropoutKey key = a.dropout.read_key();
  const RowParameter<Shape, kNorm> gamma(a.gamma, channels), beta(a.beta, channels);
  for (; r < count; r += teams) {
    ring.advance(r, at);
    const TokenRow token = ring.value(r, [&](int row) {
      return TokenRow{a.tables.type_ids[row], a.dropout.row(row), {}};
    });
    const DropoutRow dropout(a.dropout, key, token.dropout);
    const T* const type = a.tables.type + std::int64_t{token.type} * channels;
    T* const y = a.y + std::int64_t{r} * channels;
    float e[Shape::kGroups][kGroup];
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      embed_group<Shape>(ring, 0, type, g, channels, e[g]);
    }
    RowStatistics row{};
    if constexpr (kNorm) {
      row = row_statistics<Shape>(e, channels, a.epsilon);
      if (team_thread<Shape>() == 0) {
        a.mean[r] = row.mean;
        a.rstd[r] = row.rstd;
      }
    }
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int c = group_channel<Shape>(g);
      float out[kGroup];
      if constexpr (kNorm) {
        normalize_group(e[g], gamma, beta, row, g, out);
      } else {
#pragma unroll
        for (int i = 0; i < kGroup; ++i) out[i] = e[g][i];
      }
      dropout.apply(c, out);
      store_group<Shape::kVector>(y, c, channels, out);
    }
  }
  for (; r < a.capacity; r += teams) zero_row<Shape>(a.y + std::int64_t{r} * channels, channels);
}

template <class T>
struct BackwardArguments {
  Tables<T> tables;
  const float *gamma, *mean, *rstd;
  HiddenDropout dropout;
  DeviceCount count;
  std::int64_t capacity;
  int channels;
  T* dy;            // in: gradient of y; out: of e
  float* partials;  // [blocks, 2, C]: dgamma, dbeta
};

// dy is held as floats, once the dropout is undone.
template <class T, class Shape>
constexpr int kBackwardThreads = gradient_threads<T, Shape>(3);

template <class T, class Shape>
__global__ void __launch_bounds__(kBackwardThreads<T, Shape>, 1)
    embeddings_backward_kernel(const __grid_constant__ BackwardArguments<T> a) {
  const int channels = row_channels<Shape>(a.channels);
  const int count = static_cast<int>(*a.count), teams = team_count<Shape>();
  const auto at = [&](int n, int row) -> const T* {
    if (n == 0) return a.dy + std::int64_t{row} * channels;
    return n == 1 ? word_row(a.tables, row, channels) : position_row(a.tables, row, channels);
  };
  int r = static_cast<int>(team_index<Shape>());
  BackwardRing<T, Shape> ring(r, teams, count, channels, at);
  const DropoutKey key = a.dropout.read_key();
  const RowParameter<Shape, false> gamma(a.gamma, channels);
  float sums[2][Shape::kGroups][kGroup] = {};
  for (; r < count; r += teams) {
    ring.advance(r, at);
    const TokenRow token = ring.value(r, [&](int row) {
      return TokenRow{a.tables.type_ids[row], a.dropout.row(row), {a.mean[row], a.rstd[row]}};
    });
    const RowStatistics row = token.statistics;
    const DropoutRow dropout(a.dropout, key, token.dropout);
    const T* const type = a.tables.type + std::int64_t{token.type} * channels;
    T* const row_of_dy = a.dy + std::int64_t{r} * channels;
    float dy[Shape::kGroups][kGroup];
    const auto e = [&](int g, float(&values)[kGroup]) {
      embed_group<Shape>(ring, 1, type, g, channels, values);
    };
    const RowGradientMeans means = row_gradient_means<Shape>(
        [&](int g, float(&values)[kGroup]) {
          ring.get(0, g, dy[g]);
          dropout.apply(group_channel<Shape>(g), dy[g]);
#pragma unroll
          for (int i = 0; i < kGroup; ++i) values[i] = dy[g][i];
        },
        e, gamma, row, channels, sums[0], sums[1]);
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      float value[kGroup], out[kGroup];
      hold_loads();
      e(g, value);
      row_gradient(dy[g], value, gamma, row, means, g, out);
      store_group<Shape::kVector>(row_of_dy, group_channel<Shape>(g), channels, out);
    }
  }
  store_column_sums<Shape, 2>(sums, channels, a.partials);
}

// Without LayerNorm: dy *= the dropout factors.
template <class T, class Shape>
__global__ void __launch_bounds__(kDropoutThreads)
    embeddings_dropout_backward_kernel(const __grid_constant__ HiddenDropout dropout,
                                       DeviceCount count, int channels, T* dy) {
  const std::int64_t r = team_index<Shape>();
  if (r >= *count) return;
  const DropoutRow dropout_row(dropout, r);
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    const int c = group_channel<Shape>(g);
    float values[kGroup];
    load_group<Shape::kVector>(dy + r * channels, c, channels, values);
    dropout_row.apply(c, values);
    store_group<Shape::kVector>(dy + r * channels, c, channels, values);
  }
}

// Where the parts of the backward's scratch memory lie: first sized with a null base, then placed.
class Layout {
 public:
  explicit Layout(std::byte* base) : base_(base) {}
  template <class T>
  T* take(std::int64_t count) {
    T* const place = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    bytes_ += (bytes + 255) / 256 * 256;
    return place;
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  std::int64_t bytes_ = 0;
};

struct BackwardScratch {
  BackwardScratch(Layout& layout, std::int64_t tokens, std::int64_t channels,
                  std::int64_t positions, std::int64_t blocks)
      : norm_partials(layout.take<float>(blocks * 2 * channels)),
        keys(layout.take<TokenKey>(sort_keys(tokens))),
        sorted(layout.take<TokenKey>(sort_keys(tokens))),
        edges(layout.take<float>(ceil_div(tokens, kSegment) * 2 * channels)),
        type_partials(layout.take<float>(positions * kTypesAtOnce * channels)) {}

  float* norm_partials;  // [blocks, 2, C]
  TokenKey *keys, *sorted;
  float* edges;          // [segments, 2, C]
  float* type_partials;  // [positions, 2, C]
};

// Launch 1: op.dy becomes the gradient of e. Adds dgamma's and dbeta's partial sums to `sums`.
template <class T, class Shape>
void row_gradients(const EmbeddingsBackward& op, const LaunchShape& grid, float* partials,
                   cudaStream_t stream, ColumnSums<4>& sums) {
  const std::int64_t tokens = op.dy.rows(), channels = op.dy.dim(1);
  const HiddenDropout dropout(op.dropout, op.tokens, channels);
  if (op.gamma) {
    launch("embeddings_backward_kernel", embeddings_backward_kernel<T, Shape>,
           with_column_sums<Shape>(grid, channels), stream,
           BackwardArguments<T>{Tables<T>(op), op.gamma.data<float>(), op.mean.data<float>(),
                                op.rstd.data<float>(), dropout, op.tokens.num_tokens, tokens,
                                static_cast<int>(channels), op.dy.data<T>(), partials});
    const auto blocks = static_cast<int>(grid.grid.x);
    sums.add({partials, 2 * channels, blocks, op.dgamma.data<float>()});
    sums.add({partials + channels, 2 * channels, blocks, op.dbeta.data<float>()});
  } else if (dropout.threshold != 0) {
    const std::int64_t teams = kDropoutThreads / Shape::kTeam;
    launch("embeddings_dropout_backward_kernel", embeddings_dropout_backward_kernel<T, Shape>,
           {dim3(static_cast<unsigned>(ceil_div(tokens, teams))), dim3(kDropoutThreads)}, stream,
           dropout, op.tokens.num_tokens, static_cast<int>(channels), op.dy.data<T>());
  }
}

// Launches 2 to 5.
template <class T, bool kVector>
void word_gradients(const EmbeddingsBackward& op, const BackwardScratch& scratch,
                    cudaStream_t stream) {
  const std::int64_t tokens = op.dy.rows(), channels = op.dy.dim(1);
  const auto segments = static_cast<unsigned>(ceil_div(tokens, kSegment));
  const TokenKey* sorted = sort_tokens(op.input_ids.data<std::int32_t>(), op.tokens.num_tokens,
                                       tokens, scratch.keys, scratch.sorted, stream);
  launch("sum_words_kernel", sum_words_kernel<T, kVector>,
         {dim3((segments + kSegmentsPerBlock - 1) / kSegmentsPerBlock, panels(channels)),
          dim3(32 * kSegmentsPerBlock)},
         stream, sorted, op.tokens.num_tokens, op.dy.data<T>(), static_cast<int>(channels),
         op.dword.data<float>(), scratch.edges);
  launch("sum_edges_kernel", sum_edges_kernel<kVector>,
         {dim3(segments, panels(channels)), dim3(32 * kTableWarps)}, stream, sorted,
         op.tokens.num_tokens, scratch.edges, static_cast<int>(channels), op.dword.data<float>());
}

// Launches 6 and 7; once more for every two further types.
template <class T, bool kVector>
void position_and_type_gradients(const EmbeddingsBackward& op, std::int64_t positions,
                                 float* partials, cudaStream_t stream, ColumnSums<4>& sums) {
  const std::int64_t channels = op.dy.dim(1), types = op.dtype.rows();
  for (std::int64_t type = 0; type < types; type += kTypesAtOnce) {
    launch("sum_positions_kernel", sum_positions_kernel<T, kVector>,
           {dim3(static_cast<unsigned>(positions), panels(channels)), dim3(32 * kTableWarps)},
           stream, op.tokens.cu_seqlens.data<std::int32_t>(), op.tokens.num_sequences,
           op.token_type_ids.data<std::int32_t>(), static_cast<int>(type), op.dy.data<T>(),
           static_cast<int>(channels), op.dposition.data<float>(), partials);
    for (std::int64_t k = 0; k < std::min<std::int64_t>(kTypesAtOnce, types - type); ++k) {
      sums.add({partials + k * channels, kTypesAtOnce * channels, static_cast<int>(positions),
                op.dtype.data<float>() + (type + k) * channels});
    }
    add_column_sums(sums, channels, stream);
    sums.count = 0;
  }
}

}  // namespace

void CudaOps::embeddings_forward(const EmbeddingsForward& op) {
  check(op, dtype());
  const std::int64_t rows = op.y.rows(), channels = op.y.dim(1);
  const bool vector =
      vector_access(channels, op.word, op.position, op.type, op.gamma, op.beta, op.y);
  with_row_shape(channels, vector, [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      launch("embeddings_forward_kernel",
             op.gamma ? embeddings_forward_kernel<T, Shape, true>
                      : embeddings_forward_kernel<T, Shape, false>,
             ring_launch<Shape, ForwardRing<T, Shape>>(
                 rows, multiprocessors_ * kForwardBlocks<T, Shape>, kForwardThreads<Shape>),
             stream_,
             ForwardArguments<T>{Tables<T>(op), op.gamma.data<float>(), op.beta.data<float>(),
                                 static_cast<float>(op.epsilon),
                                 HiddenDropout(op.dropout, op.tokens, channels),
                                 op.tokens.num_tokens, rows, static_cast<int>(channels),
                                 op.y.data<T>(), op.mean.data<float>(), op.rstd.data<float>()});
    });
  });
}

void CudaOps::embeddings_backward(const EmbeddingsBackward& op) {
  check(op, dtype());
  const std::int64_t tokens = op.dy.rows(), channels = op.dy.dim(1);
  const std::int64_t positions = std::min(op.tokens.max_seqlen, op.dposition.rows());
  const bool vector =
      vector_access(channels, op.word, op.position, op.type, op.gamma, op.dy, op.dword);
  with_row_shape(channels, vector, [&](auto shape) {
    with_real([&](auto real) {
      using Shape = decltype(shape);
      using T = decltype(real);
      const LaunchShape grid = ring_launch<Shape, BackwardRing<T, Shape>>(
          tokens, multiprocessors_, kBackwardThreads<T, Shape>);
      Layout sizes(nullptr);
      (void)BackwardScratch(sizes, tokens, channels, positions, grid.grid.x);
      Layout layout(scratch_.reserve<std::byte>(sizes.bytes()));
      const BackwardScratch scratch(layout, tokens, channels, positions, grid.grid.x);
      ColumnSums<4> sums{};
      row_gradients<T, Shape>(op, grid, scratch.norm_partials, stream_, sums);
      word_gradients<T, Shape::kVector>(op, scratch, stream_);
      position_and_type_gradients<T, Shape::kVector>(op, positions, scratch.type_partials, stream_,
                                                     sums);
    });
  });
}

}  // namespace bert::BERT_CUDA
