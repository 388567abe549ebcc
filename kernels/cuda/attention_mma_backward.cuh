// What the kernels of the tensor-core attention backward share: where rows lie, and the step from
// scores to P and dS. The equations are in the first comment of attention_mma_backward.cu.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace bert::BERT_CUDA {

// Where the rows of one sequence and head lie.
struct BackwardRows {
  const __nv_bfloat16 *q, *k, *v;  // shape.qkv_stride apart
  const __nv_bfloat16 *dy, *y;     // shape.y_stride apart
  std::int64_t statistics;         // of the first token in lse and delta

  __device__ BackwardRows(const AttentionShape& shape, const AttentionTile& tile, int head_size,
                          const __nv_bfloat16* qkv, const __nv_bfloat16* all_dy,
                          const __nv_bfloat16* all_y) {
    const std::int64_t channels = shape.channels(), column = std::int64_t{tile.head} * head_size;
    q = qkv + 3 * channels * tile.first + column;
    k = q + channels;
    v = k + channels;
    dy = all_dy + tile.first * channels + column;
    y = all_y + tile.first * channels + column;
    statistics = tile.head * shape.capacity + tile.first;
  }
};

// Rows row.. of y (as many as a warp owns), held by the warp in 16-byte chunks until dy is in
// shared memory: delta = factor * dy . y of each row; 0 past the sequence's end.
template <int kHeadSize, int kWarpRows>
class OutputRows {
  using Tile = MmaTile<kHeadSize>;
  static constexpr int kRowsAtOnce = 32 / Tile::kChunks;

 public:
  __device__ OutputRows(const __nv_bfloat16* y, int stride, int row, int length) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kWarpRows / kRowsAtOnce; ++i) {
      const int r = row + i * kRowsAtOnce + lane / Tile::kChunks;
      chunks_[i] = make_uint4(0, 0, 0, 0);
      if (r < length) {
        chunks_[i] = *reinterpret_cast<const uint4*>(y + (r * stride + lane % Tile::kChunks * 8));
      }
    }
  }

  // dy's rows begin at row `row` of the tile. All lanes of the warp call; result[0..kWarpRows).
  __device__ void multiply(float* result, const __nv_bfloat16* dy_tile, int row,
                           float factor) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kWarpRows / kRowsAtOnce; ++i) {
      const int r = i * kRowsAtOnce + lane / Tile::kChunks;
      const uint4 dy =
          *reinterpret_cast<const uint4*>(dy_tile + Tile::offset(row + r, lane % Tile::kChunks));
      float sum = 0.0f;
      const auto add = [&sum](unsigned a, unsigned b) {
        const float2 x = unpack_bf16(a), z = unpack_bf16(b);
        sum = fmaf(x.y, z.y, fmaf(x.x, z.x, sum));
      };
      add(dy.x, chunks_[i].x), add(dy.y, chunks_[i].y);
      add(dy.z, chunks_[i].z), add(dy.w, chunks_[i].w);
#pragma unroll
      for (int offset = Tile::kChunks / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(kFullMask, sum, offset);
      }
      if (lane % Tile::kChunks == 0) result[r] = factor * sum;
    }
  }

 private:
  uint4 chunks_[kWarpRows / kRowsAtOnce];
};

// Of rows g and g + 8 of a tile of queries.
struct QueryStatistics {
  float log2_lse[2];  // lse log2(e)
  float delta[2];
};

// A tile of 16 queries and 16 keys, of which `keys` count: scores = Q K^T and dp = dy V^T become,
// packed, P without what is dropped (and without the factor of what is not) and dS. P = 0 where
// there is no key. Where there is no query, all of Q, dy and the statistics are 0: P = 1, but what
// it is multiplied with is 0, and so is dS.
template <bool kDropout>
__device__ __forceinline__ void score_tile(unsigned (&p)[4], unsigned (&ds)[4],
                                           Accumulators& scores, Accumulators& dp, int keys,
                                           const QueryStatistics& rows, const AttentionShape& shape,
                                           const AttentionBits& bits, int query_tile,
                                           int key_tile) {
  if (keys < 16) {  // the sequence's last
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (column + e % 2 + e / 4 * 8 >= keys) element(scores, e) = -INFINITY;
    }
  }
  const float log2_scale = shape.score_scale * kLog2E;
  const auto probability = [&](int e) {
    return exp2_approx(fmaf(element(scores, e), log2_scale, -rows.log2_lse[e / 2 % 2]));
  };
  if constexpr (kDropout) {
    const Kept kept(bits.bits(query_tile, key_tile), shape.dropout.threshold);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float &s = element(scores, e), &d = element(dp, e);
      const float probable = probability(e);
      s = kept(e) ? probable : 0.0f;
      d = fmaf(s, d, -probable * rows.delta[e / 2 % 2]);
    }
  } else {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float &s = element(scores, e), &d = element(dp, e);
      s = probability(e);
      d = s * (d - rows.delta[e / 2 % 2]);
    }
  }
  pack(p, scores);
  pack(ds, dp);
}

// The dropout bits of a tile as a lane needs them that has it transposed: keys along the rows.
class TransposedKept {
 public:
  // `bits`: what this lane has of the tile as AttentionBits has it.
  __device__ TransposedKept(const PhiloxCounter& bits, unsigned threshold) {
    // Word i is of the queries g + 8 (i % 2) and the keys 2t + 8 (i / 2) and one more: bit i of
    // each half.
    unsigned kept = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      kept |= kept_halves(bits[static_cast<std::size_t>(i)], threshold) & (0x10001u << i);
    }
    // This lane has the queries 2t and 2t + 1, and the keys g and g + 8.
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int from = lane % 4 * 8 + lane / 8;
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      kept_[q] = __shfl_sync(kFullMask, kept, from + 4 * q) >> (lane / 4 % 2 * 16);
    }
  }
  __device__ bool operator()(int e) const {  // element() of the transposed tile
    return kept_[e % 2] >> (e / 2 % 2 * 2 + e / 4) & 1;
  }

 private:
  unsigned kept_[2];
};

// Of the queries of a tile that a lane has along its columns: 2t, 2t + 1, 2t + 8 and 2t + 9.
struct ColumnStatistics {
  float2 log2_lse[2];
  float2 delta[2];

  // In shared memory, those of 16 queries each, `apart` floats apart.
  __device__ ColumnStatistics(const float* of_queries, int apart) {
    const float* const own = of_queries + threadIdx.x % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      log2_lse[h] = *reinterpret_cast<const float2*>(own + 8 * h);
      delta[h] = *reinterpret_cast<const float2*>(own + apart + 8 * h);
    }
  }
};

// The same as score_tile for the transposed tile: scores = K Q^T and dp = V dy^T become P^T and
// dS^T. Where there is no key, P and dS are of no use to anyone.
template <bool kDropout>
__device__ __forceinline__ void transposed_score_tile(unsigned (&p)[4], unsigned (&ds)[4],
                                                      Accumulators& scores, Accumulators& dp,
                                                      const ColumnStatistics& columns,
                                                      const AttentionShape& shape,
                                                      const AttentionBits& bits, int query_tile,
                                                      int key_tile) {
  const float log2_scale = shape.score_scale * kLog2E;
  const auto of_column = [](const float2(&values)[2], int e) {
    return e % 2 == 0 ? values[e / 4].x : values[e / 4].y;
  };
  const auto probability = [&](int e) {
    return exp2_approx(fmaf(element(scores, e), log2_scale, -of_column(columns.log2_lse, e)));
  };
  if constexpr (kDropout) {
    const TransposedKept kept(bits.bits(query_tile, key_tile), shape.dropout.threshold);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float &s = element(scores, e), &d = element(dp, e);
      const float probable = probability(e);
      s = kept(e) ? probable : 0.0f;
      d = fmaf(s, d, -probable * of_column(columns.delta, e));
    }
  } else {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float &s = element(scores, e), &d = element(dp, e);
      s = probability(e);
      d = s * (d - of_column(columns.delta, e));
    }
  }
  pack(p, scores);
  pack(ds, dp);
}

// What a warp has of its queries while it walks over keys.
template <int kHeadSize, int kRowTiles>
struct QueryOperands {
  unsigned q[kRowTiles][kHeadSize / 16][4];
  unsigned dy[kRowTiles][kHeadSize / 16][4];
  QueryStatistics rows[kRowTiles];

  // Rows row.. of both tiles; their statistics from there on, in shared memory.
  __device__ void load(const MmaLane<kHeadSize>& lane, const __nv_bfloat16* q_tile,
                       const __nv_bfloat16* dy_tile, int row, const float* log2_lse,
                       const float* delta) {
    const int own = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        rows[r].log2_lse[i] = log2_lse[16 * r + own + 8 * i];
        rows[r].delta[i] = delta[16 * r + own + 8 * i];
      }
#pragma unroll
      for (int c = 0; c < kHeadSize / 16; ++c) {
        lane.load_a(q[r][c], q_tile, row + 16 * r, 16 * c);
        lane.load_a(dy[r][c], dy_tile, row + 16 * r, 16 * c);
      }
    }
  }
};

// P and dS of a warp's queries and 16 keys, the first rows of k_rows and v_rows; dq += dS K.
template <bool kDropout, int kHeadSize, int kRowTiles>
__device__ __forceinline__ void query_step(
    unsigned (&p)[kRowTiles][4], unsigned (&ds)[kRowTiles][4],
    Accumulators (&dq)[kRowTiles][kHeadSize / 16], const QueryOperands<kHeadSize, kRowTiles>& own,
    const MmaLane<kHeadSize>& lane, const __nv_bfloat16* k_rows, const __nv_bfloat16* v_rows,
    int keys, const AttentionShape& shape, const AttentionBits& bits, int query_tile,
    int key_tile) {
  Accumulators scores[kRowTiles] = {}, dp[kRowTiles] = {};
#pragma unroll
  for (int c = 0; c < kHeadSize / 16; ++c) {
    unsigned b[2][2];
    lane.load_b(b, k_rows, 0, 16 * c);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) multiply(scores[r], own.q[r][c], b);
    lane.load_b(b, v_rows, 0, 16 * c);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) multiply(dp[r], own.dy[r][c], b);
  }
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    score_tile<kDropout>(p[r], ds[r], scores[r], dp[r], keys, own.rows[r], shape, bits,
                         query_tile + r, key_tile);
  }
#pragma unroll
  for (int c = 0; c < kHeadSize / 16; ++c) {
    unsigned b[2][2];
    lane.load_b_straight(b, k_rows, 0, 16 * c);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) multiply(dq[r][c], ds[r], b);
  }
}

// --- P and dS on their way from the warps that have their queries to those that have their keys --

constexpr int kExchangeKeys = 64;  // a tile of P or dS: [queries, kExchangeKeys]

// What a lane stores of packed accumulators.
class ExchangeLane {
 public:
  __device__ ExchangeLane() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    place_ = 2 * MmaTile<kExchangeKeys>::offset(lane / 4, 0) + lane % 4 * 4;
  }
  // Rows row.. (16) and columns column.. (16) of the tile.
  __device__ void store(__nv_bfloat16* tile, int row, int column,
                        const unsigned (&packed)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      char* const to = reinterpret_cast<char*>(tile) + (place_ ^ (2 * column + i / 2 * 16)) +
                       2 * kExchangeKeys * (row + i % 2 * 8);
      *reinterpret_cast<unsigned*>(to) = packed[i];
    }
  }

 private:
  int place_;
};

// sums [32 keys, 16 kColumnTiles] += exchanged^T right, over `queries` rows of both; these keys are
// the columns own_key.. of `exchanged`, these columns are column.. of `right`.
template <int kHeadSize, int kColumnTiles>
__device__ __forceinline__ void add_transposed(Accumulators (&sums)[2][kColumnTiles],
                                               const MmaLane<kExchangeKeys>& exchange_lane,
                                               const MmaLane<kHeadSize>& lane,
                                               const __nv_bfloat16* exchanged,
                                               const __nv_bfloat16* right, int queries, int own_key,
                                               int column) {
#pragma unroll 1
  for (int q = 0; q < queries; q += 16) {
    unsigned a[2][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      exchange_lane.load_a_transposed(a[r], exchanged + q * kExchangeKeys, 0, own_key + 16 * r);
    }
#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
      unsigned b[2][2];
      lane.load_b_straight(b, right + q * kHeadSize, 0, column + 16 * c);
#pragma unroll
      for (int r = 0; r < 2; ++r) multiply(sums[r][c], a[r], b);
    }
  }
}

}  // namespace bert::BERT_CUDA
