// Flash attention forward in bf16 on tensor cores (Dao 2023, "FlashAttention-2"), for packed
// sequences; head sizes 32, 64, 128.
//
// Work, for one head of a sequence of T tokens: 4 T^2 HS operations in two products; 8 T HS bytes
// read and written (Q, K, V, y) if the second level cache holds K and V while the blocks of one
// sequence run, plus 2 T HS bytes from that cache for every 32 queries' share of a block. At HS =
// 64 that is T / 2 operations a byte: 64 at T = 128, so bandwidth limits at most half of it there,
// and tensor cores, together with exp2 and the dropout bits (one Philox call for eight
// probabilities, about 60 instructions, as many as the eight mma of its tile need cycles), do at T
// = 512.
//
// Layout: 4 warps, each 32 queries (16 at HS = 128), so a block has 128 (64). Keys and values come
// in steps of 64 by cp.async into two buffers, the next while this one is multiplied. A warp has S
// of its rows by 64 keys in registers, 64 f32 a lane, and y as many; Q's fragments, which would
// take 32 more, are read again in each step. A fragment of K or V is read from shared memory once
// for both tiles of 16 queries: with 16 queries a warp the 128 bytes that shared memory gives in a
// clock, not the tensor cores, would be the limit.
//
// Softmax: with c = log2(e) / sqrt(HS), m the largest score so far and l the sum of
// p = 2^(c s - c m) so far, a step that raises m to m' scales l and y by 2^(c m - c m'). At the end
// y / l is the result and lse = m / sqrt(HS) + ln l. The sum l is over P without dropout, in f32,
// before P is rounded to bf16; dropout's 1 / (1 - p) joins the division by l.
#include "kernels/cuda/attention_mma.cuh"

namespace bert::BERT_CUDA {
namespace {

template <int kHeadSize>
struct ForwardPlan {
  static constexpr int kRowTiles = kHeadSize == 128 ? 1 : 2;  // of 16 queries, a warp
  static constexpr int kWarpQueries = 16 * kRowTiles;
  static constexpr int kQueries = kMmaWarps * kWarpQueries;
  static constexpr int kKeys = 64;
  static constexpr int kKeyTiles = kKeys / 16;
  static constexpr int kColumnTiles = kHeadSize / 16;
  static constexpr std::size_t kSharedBytes =
      std::size_t{kQueries + 4 * kKeys} * kHeadSize * sizeof(__nv_bfloat16);
};

// What a warp has of its queries.
template <int kHeadSize>
struct ForwardState {
  using Plan = ForwardPlan<kHeadSize>;
  Accumulators y[Plan::kRowTiles][Plan::kColumnTiles];
  float largest[Plan::kRowTiles][2];  // of rows g and g + 8
  float sum[Plan::kRowTiles][2];      // this lane's columns only
};

// Over the four lanes that share a row.
__device__ __forceinline__ float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kFullMask, x, 1);
  return x + __shfl_xor_sync(kFullMask, x, 2);
}

// Scores to probabilities relative to the new maximum; what was summed before is scaled to it.
template <int kHeadSize>
__device__ __forceinline__ void softmax_step(
    ForwardState<kHeadSize>& state, int r,
    Accumulators (&scores)[ForwardPlan<kHeadSize>::kKeyTiles], float log2_scale) {
  using Plan = ForwardPlan<kHeadSize>;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float largest = state.largest[r][i];
#pragma unroll
    for (int k = 0; k < Plan::kKeyTiles; ++k) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        largest = fmaxf(largest, fmaxf(scores[k][h][2 * i], scores[k][h][2 * i + 1]));
      }
    }
    largest = row_max(largest);
    const float offset = largest * log2_scale;
    const float correction = exp2_approx(state.largest[r][i] * log2_scale - offset);
    state.largest[r][i] = largest;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < Plan::kKeyTiles; ++k) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& s = scores[k][h][2 * i + j];
          s = exp2_approx(fmaf(s, log2_scale, -offset));
          sum += s;
        }
      }
    }
    state.sum[r][i] = fmaf(state.sum[r][i], correction, sum);
#pragma unroll
    for (int c = 0; c < Plan::kColumnTiles; ++c) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        state.y[r][c][h][2 * i] *= correction;
        state.y[r][c][h][2 * i + 1] *= correction;
      }
    }
  }
}

// One step of keys: k_tile and v_tile hold them, `keys` of them count.
template <int kHeadSize, bool kDropout>
__device__ __forceinline__ void forward_step(
    ForwardState<kHeadSize>& state, const MmaLane<kHeadSize>& lane, const __nv_bfloat16* q_rows,
    const __nv_bfloat16* k_tile, const __nv_bfloat16* v_tile, int keys, float log2_scale,
    const AttentionBits& bits, unsigned threshold, int query_tile, int key_tile) {
  using Plan = ForwardPlan<kHeadSize>;
  Accumulators scores[Plan::kRowTiles][Plan::kKeyTiles] = {};
#pragma unroll
  for (int c = 0; c < Plan::kColumnTiles; ++c) {
    unsigned q[Plan::kRowTiles][4];
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) lane.load_a(q[r], q_rows, 16 * r, 16 * c);
#pragma unroll
    for (int k = 0; k < Plan::kKeyTiles; ++k) {
      unsigned b[2][2];
      lane.load_b(b, k_tile, 16 * k, 16 * c);
#pragma unroll
      for (int r = 0; r < Plan::kRowTiles; ++r) multiply(scores[r][k], q[r], b);
    }
  }
  if (keys < Plan::kKeys) {  // the last step
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int k = 0; k < Plan::kKeyTiles; ++k) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (16 * k + column + e % 2 + e / 4 * 8 < keys) continue;
#pragma unroll
        for (int r = 0; r < Plan::kRowTiles; ++r) element(scores[r][k], e) = -INFINITY;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) softmax_step(state, r, scores[r], log2_scale);
#pragma unroll
  for (int k = 0; k < Plan::kKeyTiles; ++k) {
    unsigned p[Plan::kRowTiles][4];
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) {
      if constexpr (kDropout) {
        drop(scores[r][k], bits.bits(query_tile + r, key_tile + k), threshold);
      }
      pack(p[r], scores[r][k]);
    }
#pragma unroll
    for (int c = 0; c < Plan::kColumnTiles; ++c) {
      unsigned b[2][2];
      lane.load_b_straight(b, v_tile, 16 * k, 16 * c);
#pragma unroll
      for (int r = 0; r < Plan::kRowTiles; ++r) multiply(state.y[r][c], p[r], b);
    }
  }
}

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads)
    mma_forward_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* qkv,
                       __nv_bfloat16* y, float* lse) {
  using Plan = ForwardPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kStepElements = Plan::kKeys * kHeadSize;
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const k_tiles = q_tile + Plan::kQueries * kHeadSize;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * kStepElements;

  const std::int64_t channels = shape.channels();
  zero_tail(shape, y, channels);
  const AttentionTile tile = find_tile(shape, Plan::kQueries, per_sequence);
  if (tile.row >= tile.length) return;
  const __nv_bfloat16* const q =
      qkv + tile.first * 3 * channels + std::int64_t{tile.head} * kHeadSize;
  const auto copy_step = [&](int key) {
    const int buffer = key / Plan::kKeys % 2 * kStepElements;
    Tile::copy_rows(k_tiles + buffer, Plan::kKeys, q + channels, 3 * channels, key, tile.length);
    Tile::copy_rows(v_tiles + buffer, Plan::kKeys, q + 2 * channels, 3 * channels, key,
                    tile.length);
  };
  Tile::copy_rows(q_tile, Plan::kQueries, q, 3 * channels, tile.row, tile.length);
  copy_step(0);
  if (Plan::kKeys < tile.length) copy_step(Plan::kKeys);
  cp_async_commit();

  const MmaLane<kHeadSize> lane;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int query = tile.row + warp * Plan::kWarpQueries;
  const bool has_queries = query < tile.length;
  __nv_bfloat16* const q_rows = q_tile + warp * Plan::kWarpQueries * kHeadSize;
  const float log2_scale = shape.score_scale * kLog2E;

  const AttentionBits bits = AttentionBits(shape, tile);
  ForwardState<kHeadSize> state;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      state.largest[r][i] = -INFINITY;
      state.sum[r][i] = 0.0f;
    }
#pragma unroll
    for (int c = 0; c < Plan::kColumnTiles; ++c) {
#pragma unroll
      for (int e = 0; e < 8; ++e) element(state.y[r][c], e) = 0.0f;
    }
  }
  for (int key = 0; key < tile.length; key += Plan::kKeys) {
    cp_async_wait<0>();
    __syncthreads();  // also: all have read the other buffer
    if (key > 0 && key + Plan::kKeys < tile.length) copy_step(key + Plan::kKeys);
    cp_async_commit();
    if (has_queries) {
      const int buffer = key / Plan::kKeys % 2 * kStepElements;
      forward_step<kHeadSize, kDropout>(state, lane, q_rows, k_tiles + buffer, v_tiles + buffer,
                                        tile.length - key, log2_scale, bits,
                                        shape.dropout.threshold, query / 16, key / 16);
    }
  }
  if (!has_queries) return;

  const int row = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    float scale[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float sum = row_sum(state.sum[r][i]);
      scale[i] = shape.dropout.scale / sum;
      const int query_row = query + 16 * r + row + 8 * i;
      if (threadIdx.x % 4 == 0 && query_row < tile.length) {
        lse[tile.head * shape.capacity + tile.first + query_row] =
            state.largest[r][i] * shape.score_scale + logf(sum);
      }
    }
    store_rows<kHeadSize>(state.y[r], scale, q_rows + 16 * r * kHeadSize,
                          y + tile.first * channels + std::int64_t{tile.head} * kHeadSize, channels,
                          query + 16 * r, tile.length);
  }
}

}  // namespace

void attention_forward_mma(const AttentionShape& shape, const __nv_bfloat16* qkv, __nv_bfloat16* y,
                           float* lse, cudaStream_t stream) {
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    using Plan = ForwardPlan<kHeadSize>;
    launch("attention_mma_forward", mma_forward_kernel<kHeadSize, kDropout>,
           {attention_grid(shape, Plan::kQueries), dim3(kMmaThreads), Plan::kSharedBytes}, stream,
           shape, tiles_per_sequence(shape, Plan::kQueries), qkv, y, lse);
  });
}

}  // namespace bert::BERT_CUDA
