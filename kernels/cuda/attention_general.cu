// Attention of any head size in f32 arithmetic: all of f32, and bf16 with head sizes that the
// tensor-core kernels lack. Right first; it is not what training in bf16 runs.
//
// A block of 128 threads has 32 rows (queries, or keys in the kernel of dk and dv) of one sequence
// and head, and a slice of 64 columns of the results; it walks over the other side in steps of 32.
// A 32 x 32 tile of scores is four 16 x 16 tiles, one a warp, each lane with the eight elements
// that share its dropout bits. Head sizes beyond 64 are summed in chunks of 64 columns, so shared
// memory does not depend on the head size; each slice of columns computes the scores again.
//
// Forward takes the keys twice: first for the log-sum-exp, then for y = sum_j M_ij exp(s_ij -
// lse_i) v_j, which needs no rescaling (6 T^2 HS operations a head instead of 4, up to HS = 64).
// Backward: row-sums delta_i = dy_i . y_i, then a kernel whose blocks own queries and write dq, and
// one whose blocks own keys and write dk and dv, each with its sums in registers in the order of
// the rows: no atomics, the same bits every time (14 T^2 HS operations instead of 10).
//
// What limits it: shared memory reads, 16 bytes for every 5 to 8 multiplications. Rows in shared
// memory are 68 floats apart, so eight rows read 16 bytes each from 32 different banks.
#include "kernels/cuda/attention.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 32;                 // of a tile, on both sides
constexpr int kChunk = 64;                // columns of a head at a time
constexpr int kChunkStride = kChunk + 4;  // floats between rows of a chunk
constexpr int kScoreStride = kRows + 4;   // floats between rows of a tile of scores

using Chunk = float[kRows * kChunkStride];
using Scores = float[kRows * kScoreStride];

// Where a lane's elements of the block's 32 x 32 tile lie: element e is (row(e), column(e)).
struct Lane {
  int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  __device__ int row_tile() const { return warp / 2; }
  __device__ int column_tile() const { return warp % 2; }
  __device__ int row(int e) const { return row_tile() * 16 + lane / 4 + e / 2 % 2 * 8; }
  __device__ int column(int e) const {
    return column_tile() * 16 + lane % 4 * 2 + e % 2 + e / 4 * 8;
  }
};

// A matrix of one head: rows of its tokens, `stride` apart.
template <class T>
struct HeadRows {
  const T* data;  // of the sequence's first token
  std::int64_t stride;
};
// Q, K, V (part 0, 1, 2).
template <class T>
__device__ HeadRows<T> part_of(const AttentionShape& shape, const AttentionTile& tile, const T* qkv,
                               int part) {
  const std::int64_t channels = shape.channels();
  return {
      qkv + 3 * channels * tile.first + part * channels + std::int64_t{tile.head} * shape.head_size,
      3 * channels};
}
template <class T>
__device__ HeadRows<T> rows_of(const AttentionShape& shape, const AttentionTile& tile, const T* y) {
  const std::int64_t channels = shape.channels();
  return {y + tile.first * channels + std::int64_t{tile.head} * shape.head_size, channels};
}

// Rows row.. and columns column.. to shared memory; zeros beyond the sequence and the head.
template <class T>
__device__ void load_chunk(Chunk& chunk, const HeadRows<T>& from, int row, int length, int column,
                           int head_size) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunk; i += kThreads) {
    const int r = i / kChunk, c = i % kChunk;
    const bool valid = row + r < length && column + c < head_size;
    chunk[r * kChunkStride + c] =
        valid ? to_float(from.data[(row + r) * from.stride + column + c]) : 0.0f;
  }
}

// sums[e] = row row(e) of a . row column(e) of b, over all columns of the head. All threads call;
// the chunks are free to be written afterwards.
template <class T>
__device__ void row_products(float (&sums)[8], Chunk& a_chunk, const HeadRows<T>& a, int a_row,
                             Chunk& b_chunk, const HeadRows<T>& b, int b_row, int length,
                             int head_size) {
  const Lane lane;
#pragma unroll
  for (int e = 0; e < 8; ++e) sums[e] = 0.0f;
  for (int column = 0; column < head_size; column += kChunk) {
    load_chunk(a_chunk, a, a_row, length, column, head_size);
    load_chunk(b_chunk, b, b_row, length, column, head_size);
    __syncthreads();
    const int end = min(kChunk, (head_size - column + 3) / 4 * 4);
    for (int d = 0; d < end; d += 4) {
      float a_values[2][4], b_values[4][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        load_floats(a_chunk + lane.row(2 * i) * kChunkStride + d, a_values[i]);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        load_floats(b_chunk + lane.column(j % 2 + j / 2 * 4) * kChunkStride + d, b_values[j]);
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          sums[e] = fmaf(a_values[e / 2 % 2][k], b_values[e % 2 + e / 4 * 2][k], sums[e]);
        }
      }
    }
    __syncthreads();
  }
}

// A thread's part of a [32, 64] result: four rows, four columns.
struct Result {
  float sums[4][4] = {};
  int row = static_cast<int>(threadIdx.x) / 16 * 4, column = static_cast<int>(threadIdx.x) % 16 * 4;

  // += weights^T [32, 32] chunk [32, 64]: `weights` has its sums' dimension along the rows.
  __device__ void accumulate(const Scores& weights, const Chunk& chunk) {
    for (int k = 0; k < kRows; ++k) {
      float a[4], b[4];
      load_floats(weights + k * kScoreStride + row, a);
      load_floats(chunk + k * kChunkStride + column, b);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
  }
  // scale * sums to rows first_row.. and columns first_column.. of `to` [length, head_size].
  template <class T>
  __device__ void store(T* to, std::int64_t stride, int first_row, int length, int first_column,
                        int head_size, float scale) const {
    for (int i = 0; i < 4 && first_row + row + i < length; ++i) {
      for (int j = 0; j < 4 && first_column + column + j < head_size; ++j) {
        to[(first_row + row + i) * stride + first_column + column + j] =
            from_float<T>(scale * sums[i][j]);
      }
    }
  }
};

// keep[e]: 0, or 1 / (1 - p), of the lane's elements of the tile with queries query_row.. along its
// rows and keys key_row.. along its columns.
__device__ void dropout_factors(float (&keep)[8], const AttentionShape& shape,
                                const AttentionTile& tile, int query_row, int key_row) {
  const Lane lane;
#pragma unroll
  for (int e = 0; e < 8; ++e) keep[e] = 1.0f;
  if (shape.dropout.key == nullptr) return;
  const PhiloxCounter bits =
      AttentionBits(shape, tile)
          .bits(query_row / 16 + lane.row_tile(), key_row / 16 + lane.column_tile());
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    keep[e] = dropout_value(bits, e) >= shape.dropout.threshold ? shape.dropout.scale : 0.0f;
  }
}

// Log-sum-exp of the lane's rows from each lane's own maximum and sum: over the four lanes of a
// row, then over the two warps. `partial` [2][32][2] is scratch.
__device__ void combine_lse(float (&lse)[2], const float (&largest)[2], const float (&sum)[2],
                            float (&partial)[2 * kRows * 2]) {
  const Lane lane;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float m = largest[i];
    m = fmaxf(m, __shfl_xor_sync(kFullMask, m, 1));
    m = fmaxf(m, __shfl_xor_sync(kFullMask, m, 2));
    float s = largest[i] == -INFINITY ? 0.0f : sum[i] * expf(largest[i] - m);
    s += __shfl_xor_sync(kFullMask, s, 1);
    s += __shfl_xor_sync(kFullMask, s, 2);
    if (lane.lane % 4 == 0) {
      float* const to = partial + (lane.column_tile() * kRows + lane.row(2 * i)) * 2;
      to[0] = m;
      to[1] = s;
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float* const left = partial + lane.row(2 * i) * 2;  // has key 0: never empty
    const float* const right = left + kRows * 2;
    const float m = fmaxf(left[0], right[0]);
    const float s = left[1] * expf(left[0] - m) + right[1] * expf(right[0] - m);
    lse[i] = m + logf(s);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    general_forward_kernel(AttentionShape shape, int per_sequence, const T* qkv, T* y, float* lse) {
  BERT_SHARED(float, q_chunk, kRows* kChunkStride);
  BERT_SHARED(float, k_chunk, kRows* kChunkStride);
  BERT_SHARED(float, weights, kRows* kScoreStride);
  BERT_SHARED(float, partial, 2 * kRows * 2);
  const Lane lane;
  const int slice = static_cast<int>(blockIdx.z) * kChunk, head_size = shape.head_size;
  zero_tail(shape, y, shape.channels());
  const AttentionTile tile = find_tile(shape, kRows, per_sequence);
  if (tile.row >= tile.length) return;
  const HeadRows<T> q = part_of(shape, tile, qkv, 0), k = part_of(shape, tile, qkv, 1),
                    v = part_of(shape, tile, qkv, 2);

  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  for (int key = 0; key < tile.length; key += kRows) {
    float scores[8];
    row_products(scores, q_chunk, q, tile.row, k_chunk, k, key, tile.length, head_size);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (key + lane.column(e) >= tile.length) continue;
      const int i = e / 2 % 2;
      const float s = scores[e] * shape.score_scale, m = fmaxf(largest[i], s);
      sum[i] = sum[i] * expf(largest[i] - m) + expf(s - m);
      largest[i] = m;
    }
  }
  float row_lse[2];
  combine_lse(row_lse, largest, sum, partial);
  if (slice == 0 && lane.column_tile() == 0 && lane.lane % 4 == 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = tile.row + lane.row(2 * i);
      if (row < tile.length) lse[tile.head * shape.capacity + tile.first + row] = row_lse[i];
    }
  }

  Result result;
  for (int key = 0; key < tile.length; key += kRows) {
    float scores[8], keep[8];
    row_products(scores, q_chunk, q, tile.row, k_chunk, k, key, tile.length, head_size);
    dropout_factors(keep, shape, tile, tile.row, key);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const bool valid = key + lane.column(e) < tile.length;
      const float p = expf(scores[e] * shape.score_scale - row_lse[e / 2 % 2]);
      weights[lane.column(e) * kScoreStride + lane.row(e)] = valid ? p * keep[e] : 0.0f;
    }
    load_chunk(k_chunk, v, key, tile.length, slice, head_size);
    __syncthreads();
    result.accumulate(weights, k_chunk);
    __syncthreads();
  }
  result.store(y + tile.first * shape.channels() + std::int64_t{tile.head} * head_size,
               shape.channels(), tile.row, tile.length, slice, head_size, 1.0f);
}

// delta[h, i] = dy_i . y_i: a warp for each token and head.
template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    general_row_sums_kernel(AttentionShape shape, const T* dy, const T* y, float* delta) {
  const int lane = static_cast<int>(threadIdx.x) % 32, head = static_cast<int>(blockIdx.y);
  const std::int64_t token = std::int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  float sum = 0.0f;
  if (token < *shape.num_tokens) {
    const std::int64_t row = token * shape.channels() + std::int64_t{head} * shape.head_size;
    for (int d = lane; d < shape.head_size; d += 32) {
      sum = fmaf(to_float(dy[row + d]), to_float(y[row + d]), sum);
    }
  }
  sum = warp_sum(sum);
  if (lane == 0 && token < shape.capacity) delta[head * shape.capacity + token] = sum;
}

// What backward knows of the lane's elements of a tile: P, M and dS. Queries along the rows.
struct ScoreGradient {
  float p[8], keep[8], ds[8];
};

template <class T>
__device__ void score_gradient(ScoreGradient& g, Chunk& a_chunk, Chunk& b_chunk,
                               const AttentionShape& shape, const AttentionTile& tile, const T* qkv,
                               const T* dy, const float* lse, const float* delta, int query,
                               int key) {
  const Lane lane;
  float scores[8], products[8];
  row_products(scores, a_chunk, part_of(shape, tile, qkv, 0), query, b_chunk,
               part_of(shape, tile, qkv, 1), key, tile.length, shape.head_size);
  row_products(products, a_chunk, rows_of(shape, tile, dy), query, b_chunk,
               part_of(shape, tile, qkv, 2), key, tile.length, shape.head_size);
  dropout_factors(g.keep, shape, tile, query, key);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const int row = query + lane.row(e);
    const bool valid = row < tile.length && key + lane.column(e) < tile.length;
    const std::int64_t i = tile.head * shape.capacity + tile.first + row;
    g.p[e] = valid ? expf(scores[e] * shape.score_scale - lse[i]) : 0.0f;
    g.ds[e] = valid ? g.p[e] * (g.keep[e] * products[e] - delta[i]) : 0.0f;
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    general_dq_kernel(AttentionShape shape, int per_sequence, const T* dy, const T* qkv,
                      const float* lse, const float* delta, T* dqkv) {
  BERT_SHARED(float, a_chunk, kRows* kChunkStride);
  BERT_SHARED(float, b_chunk, kRows* kChunkStride);
  BERT_SHARED(float, weights, kRows* kScoreStride);
  const Lane lane;
  const int slice = static_cast<int>(blockIdx.z) * kChunk, head_size = shape.head_size;
  const std::int64_t width = 3 * shape.channels();
  zero_tail(shape, dqkv, width);
  const AttentionTile tile = find_tile(shape, kRows, per_sequence);
  if (tile.row >= tile.length) return;

  Result dq;
  for (int key = 0; key < tile.length; key += kRows) {
    ScoreGradient g;
    score_gradient(g, a_chunk, b_chunk, shape, tile, qkv, dy, lse, delta, tile.row, key);
#pragma unroll
    for (int e = 0; e < 8; ++e) weights[lane.column(e) * kScoreStride + lane.row(e)] = g.ds[e];
    load_chunk(b_chunk, part_of(shape, tile, qkv, 1), key, tile.length, slice, head_size);
    __syncthreads();
    dq.accumulate(weights, b_chunk);
    __syncthreads();
  }
  dq.store(dqkv + tile.first * width + std::int64_t{tile.head} * head_size, width, tile.row,
           tile.length, slice, head_size, shape.score_scale);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    general_dkv_kernel(AttentionShape shape, int per_sequence, const T* dy, const T* qkv,
                       const float* lse, const float* delta, T* dqkv) {
  BERT_SHARED(float, a_chunk, kRows* kChunkStride);
  BERT_SHARED(float, b_chunk, kRows* kChunkStride);
  BERT_SHARED(float, p_weights, kRows* kScoreStride);
  BERT_SHARED(float, ds_weights, kRows* kScoreStride);
  const Lane lane;
  const int slice = static_cast<int>(blockIdx.z) * kChunk, head_size = shape.head_size;
  const std::int64_t width = 3 * shape.channels();
  const AttentionTile tile = find_tile(shape, kRows, per_sequence);
  if (tile.row >= tile.length) return;

  Result dk, dv;
  for (int query = 0; query < tile.length; query += kRows) {
    ScoreGradient g;
    score_gradient(g, a_chunk, b_chunk, shape, tile, qkv, dy, lse, delta, query, tile.row);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      p_weights[lane.row(e) * kScoreStride + lane.column(e)] = g.p[e] * g.keep[e];
      ds_weights[lane.row(e) * kScoreStride + lane.column(e)] = g.ds[e];
    }
    load_chunk(a_chunk, part_of(shape, tile, qkv, 0), query, tile.length, slice, head_size);
    load_chunk(b_chunk, rows_of(shape, tile, dy), query, tile.length, slice, head_size);
    __syncthreads();
    dk.accumulate(ds_weights, a_chunk);
    dv.accumulate(p_weights, b_chunk);
    __syncthreads();
  }
  T* const to = dqkv + tile.first * width + std::int64_t{tile.head} * head_size;
  dk.store(to + shape.channels(), width, tile.row, tile.length, slice, head_size,
           shape.score_scale);
  dv.store(to + 2 * shape.channels(), width, tile.row, tile.length, slice, head_size, 1.0f);
}

LaunchShape general_shape(const AttentionShape& shape) {
  dim3 grid = attention_grid(shape, kRows);
  grid.z = static_cast<unsigned>((shape.head_size + kChunk - 1) / kChunk);
  return {grid, dim3(kThreads)};
}

}  // namespace

template <class T>
void attention_forward_general(const AttentionShape& shape, const T* qkv, T* y, float* lse,
                               cudaStream_t stream) {
  launch("attention_general_forward", general_forward_kernel<T>, general_shape(shape), stream,
         shape, tiles_per_sequence(shape, kRows), qkv, y, lse);
}

template <class T>
void attention_backward_general(const AttentionShape& shape, const T* dy, const T* y, const T* qkv,
                                const float* lse, float* delta, T* dqkv, cudaStream_t stream) {
  const int per_sequence = tiles_per_sequence(shape, kRows);
  const dim3 token_grid(static_cast<unsigned>(ceil_div(shape.capacity, kThreads / 32)),
                        static_cast<unsigned>(shape.heads));
  launch("attention_general_row_sums", general_row_sums_kernel<T>, {token_grid, dim3(kThreads)},
         stream, shape, dy, y, delta);
  launch("attention_general_dq", general_dq_kernel<T>, general_shape(shape), stream, shape,
         per_sequence, dy, qkv, lse, delta, dqkv);
  launch("attention_general_dkv", general_dkv_kernel<T>, general_shape(shape), stream, shape,
         per_sequence, dy, qkv, lse, delta, dqkv);
}

template void attention_forward_general(const AttentionShape&, const float*, float*, float*,
                                        cudaStream_t);
template void attention_forward_general(const AttentionShape&, const __nv_bfloat16*, __nv_bfloat16*,
                                        float*, cudaStream_t);
template void attention_backward_general(const AttentionShape&, const float*, const float*,
                                         const float*, const float*, float*, float*, cudaStream_t);
template void attention_backward_general(const AttentionShape&, const __nv_bfloat16*,
                                         const __nv_bfloat16*, const __nv_bfloat16*, const float*,
                                         float*, __nv_bfloat16*, cudaStream_t);

}  // namespace bert::BERT_CUDA
