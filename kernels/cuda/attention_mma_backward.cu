// Flash attention backward in bf16 on tensor cores (Dao 2023, "FlashAttention-2"), for packed
// sequences; head sizes 32, 64, 128. docs/derivations/attention.md derives it; with P had again
// from the saved lse, M the dropout factors and delta_i = dy_i . y_i:
//   dV = (M * P)^T dy,  dP = M * (dy V^T),  dS = P * (dP - delta),  dQ = dS K / sqrt(HS),
//   dK = dS^T Q / sqrt(HS).
//
// Two kernels. One has blocks that own queries, computes delta, S, dP and dQ, and leaves delta for
// the other; its blocks own keys and compute S^T, dP^T, dV and dK. That is seven products and P and
// M twice, where one kernel would need five and once. But such a kernel must sum dQ over the
// blocks of keys: by float atomics, which give other bits each time; or in one block for a whole
// sequence, f32 [T, HS] in shared memory, which leaves one block a multiprocessor at T = 512 and
// too few blocks at T = 128. Here every sum stays in registers in the order of the other side's
// rows, P and dS go from one product to the next in registers, warps meet only where a tile is
// handed over, and any length is served alike.
//
// Work, for one head of a sequence of T tokens: 14 T^2 HS operations (10 is what is necessary),
// 24 T HS bytes read and written with the second level cache holding the other side: enough
// operations a byte for tensor cores, and not memory, to be the limit from T = 128 on. Beside them
// the dropout bits weigh most, as in forward.
//
// Layout: 4 warps. For dQ each has 32 queries (16 at HS = 128) and walks over steps of 64 keys; for
// dK and dV each has 16 keys (32 at HS = 32), as it carries two results, and walks over steps of 64
// queries. The fragments of a warp's own rows stay in registers (of keys at HS = 128: are read
// again); the other side's come by cp.async into two buffers. Scores are computed 16 x 16 at a
// time, so tiles past a sequence's end are not computed at all.
#include "kernels/cuda/attention_mma_backward.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kStep = 64;  // rows of the other side at a time

template <int kHeadSize, int kTiles>
struct BackwardPlan {
  static constexpr int kRowTiles = kTiles;  // of 16 rows, a warp
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kMmaWarps * kWarpRows;  // of a block
  static constexpr int kColumnTiles = kHeadSize / 16;
  static constexpr int kStepElements = kStep * kHeadSize;
  // Two tiles of a block's own rows, two of the other side in two buffers.
  static constexpr std::size_t kSharedBytes =
      std::size_t{2 * kRows + 4 * kStep} * kHeadSize * sizeof(__nv_bfloat16);
};
template <int kHeadSize>
using QueryPlan = BackwardPlan<kHeadSize, kHeadSize == 128 ? 1 : 2>;
template <int kHeadSize>
using KeyPlan = BackwardPlan<kHeadSize, kHeadSize == 32 ? 2 : 1>;

// delta of rows row.. (as many as `result` has) of the sequence, by one warp; 0 past its end.
// Each row's chunks of 16 bytes go to neighbouring lanes.
template <int kHeadSize, int kWarpRows>
__device__ __forceinline__ void warp_delta(float* result, const BackwardRows& rows, int row,
                                           int length) {
  constexpr int kChunks = kHeadSize / 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 4
  for (int first = 0; first < kWarpRows; first += 32 / kChunks) {
    const int r = first + lane / kChunks;
    float sum = 0.0f;
    if (row + r < length) {
      const std::int64_t place = (row + r) * rows.y_stride + lane % kChunks * 8;
      float dy[8], y[8];
      load_floats(rows.dy + place, dy);
      load_floats(rows.y + place, y);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum = fmaf(dy[i], y[i], sum);
    }
#pragma unroll
    for (int offset = kChunks / 2; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(kFullMask, sum, offset);
    }
    if (lane % kChunks == 0) result[r] = sum;
  }
}

// --- dQ ------------------------------------------------------------------------------------------

// What a warp has of its queries.
template <int kHeadSize>
struct QueryState {
  using Plan = QueryPlan<kHeadSize>;
  unsigned q[Plan::kRowTiles][Plan::kColumnTiles][4];
  unsigned dy[Plan::kRowTiles][Plan::kColumnTiles][4];
  Accumulators dq[Plan::kRowTiles][Plan::kColumnTiles];
  float log2_lse[Plan::kRowTiles][2];  // of rows g and g + 8
  float delta[Plan::kRowTiles][2];
};

// dq += dS K of 16 keys, the rows key.. of k_tile and v_tile; `keys` of them count.
template <int kHeadSize, bool kDropout>
__device__ __forceinline__ void dq_step(QueryState<kHeadSize>& state,
                                        const MmaLane<kHeadSize>& lane, const __nv_bfloat16* k_tile,
                                        const __nv_bfloat16* v_tile, int key, int keys,
                                        const AttentionShape& shape, const AttentionBits& bits,
                                        int query_tile, int key_tile) {
  using Plan = QueryPlan<kHeadSize>;
  const float log2_scale = shape.score_scale * kLog2E;
  Accumulators scores[Plan::kRowTiles] = {}, dp[Plan::kRowTiles] = {};
#pragma unroll
  for (int c = 0; c < Plan::kColumnTiles; ++c) {
    unsigned b[2][2];
    lane.load_b(b, k_tile, key, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) multiply(scores[r], state.q[r][c], b);
    lane.load_b(b, v_tile, key, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) multiply(dp[r], state.dy[r][c], b);
  }
  if (keys < 16) {  // the sequence's last: P = 0 beyond it
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (column + e % 2 + e / 4 * 8 < keys) continue;
#pragma unroll
      for (int r = 0; r < Plan::kRowTiles; ++r) element(scores[r], e) = -INFINITY;
    }
  }
  unsigned ds[Plan::kRowTiles][4];
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    if constexpr (kDropout) {
      drop(dp[r], bits.bits(query_tile + r, key_tile), shape.dropout.threshold);
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const int i = e / 2 % 2;
      const float p = exp2_approx(fmaf(element(scores[r], e), log2_scale, -state.log2_lse[r][i]));
      float& d = element(dp[r], e);
      if constexpr (kDropout) {
        d = p * fmaf(d, shape.dropout.scale, -state.delta[r][i]);
      } else {
        d = p * (d - state.delta[r][i]);
      }
    }
    pack(ds[r], dp[r]);
  }
#pragma unroll
  for (int c = 0; c < Plan::kColumnTiles; ++c) {
    unsigned b[2][2];
    lane.load_b_straight(b, k_tile, key, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) multiply(state.dq[r][c], ds[r], b);
  }
}

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads)
    mma_dq_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* dy,
                  const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse, float* delta,
                  __nv_bfloat16* dqkv) {
  using Plan = QueryPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  BERT_SHARED(float, delta_rows, Plan::kRows);
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const dy_tile = q_tile + Plan::kRows * kHeadSize;
  __nv_bfloat16* const k_tiles = dy_tile + Plan::kRows * kHeadSize;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * Plan::kStepElements;

  zero_tail(shape, dqkv, 3 * shape.channels());
  const AttentionTile tile = find_tile(shape, Plan::kRows, per_sequence);
  if (tile.row >= tile.length) return;
  const BackwardRows rows(shape, tile, kHeadSize, qkv, dy, y);
  const auto copy_step = [&](int key) {
    const int buffer = key / kStep % 2 * Plan::kStepElements;
    Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), k_tiles + buffer, kStep,
                                          rows.k, rows.qkv_stride, key, tile.length);
    Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), v_tiles + buffer, kStep,
                                          rows.v, rows.qkv_stride, key, tile.length);
  };
  Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), q_tile, Plan::kRows, rows.q,
                                        rows.qkv_stride, tile.row, tile.length);
  Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), dy_tile, Plan::kRows,
                                        rows.dy, rows.y_stride, tile.row, tile.length);
  copy_step(0);
  if (kStep < tile.length) copy_step(kStep);
  cp_async_commit();

  const MmaLane<kHeadSize> lane;
  const AttentionBits bits(shape, tile);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp * Plan::kWarpRows, query = tile.row + warp_row;
  const bool has_queries = query < tile.length;
  QueryState<kHeadSize> state;
  zero(state.dq);
  warp_delta<kHeadSize, Plan::kWarpRows>(delta_rows + warp_row, rows, query, tile.length);
  __syncwarp();
  const int row = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int own = 16 * r + row + 8 * i;
      const bool valid = query + own < tile.length;
      const std::int64_t place = rows.statistics + query + own;
      state.delta[r][i] = delta_rows[warp_row + own];
      state.log2_lse[r][i] = valid ? lse[place] * kLog2E : 0.0f;
      if (valid && threadIdx.x % 4 == 0) delta[place] = state.delta[r][i];
    }
  }

  for (int key = 0; key < tile.length; key += kStep) {
    cp_async_wait<0>();
    __syncthreads();  // also: all have read the other buffer
    if (key > 0 && key + kStep < tile.length) copy_step(key + kStep);
    cp_async_commit();
    if (has_queries) {
      if (key == 0) {
#pragma unroll
        for (int r = 0; r < Plan::kRowTiles; ++r) {
#pragma unroll
          for (int c = 0; c < Plan::kColumnTiles; ++c) {
            lane.load_a(state.q[r][c], q_tile, warp_row + 16 * r, 16 * c);
            lane.load_a(state.dy[r][c], dy_tile, warp_row + 16 * r, 16 * c);
          }
        }
      }
      const int buffer = key / kStep % 2 * Plan::kStepElements;
      const int keys = min(kStep, tile.length - key);
#pragma unroll 1
      for (int k = 0; k < keys; k += 16) {
        dq_step<kHeadSize, kDropout>(state, lane, k_tiles + buffer, v_tiles + buffer, k, keys - k,
                                     shape, bits, query / 16, (key + k) / 16);
      }
    }
  }
  if (!has_queries) return;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    const float scale[2] = {shape.score_scale, shape.score_scale};
    store_rows<kHeadSize>(state.dq[r], scale, q_tile + (warp_row + 16 * r) * kHeadSize,
                          dqkv + (rows.q - qkv), rows.qkv_stride, query + 16 * r, tile.length);
  }
}

// --- dK, dV --------------------------------------------------------------------------------------

// What a warp has of its keys.
template <int kHeadSize>
struct KeyState {
  using Plan = KeyPlan<kHeadSize>;
  // Registers suffice for the results and these up to HS = 64; beyond, they are read in each step.
  static constexpr bool kKeepsOperands = kHeadSize <= 64;
  static constexpr int kKept = kKeepsOperands ? Plan::kColumnTiles : 1;
  unsigned k[Plan::kRowTiles][kKept][4];
  unsigned v[Plan::kRowTiles][kKept][4];
  Accumulators dk[Plan::kRowTiles][Plan::kColumnTiles];
  Accumulators dv[Plan::kRowTiles][Plan::kColumnTiles];
};

// dv += (M * P)^T dy / dropout.scale and dk += dS^T Q of 16 queries, the rows query.. of q_tile and
// dy_tile. Where there is no query, all are zero: P = 1, but dy and dS are 0.
template <int kHeadSize, bool kDropout>
__device__ __forceinline__ void dkv_step(KeyState<kHeadSize>& state, const MmaLane<kHeadSize>& lane,
                                         const __nv_bfloat16* k_rows, const __nv_bfloat16* v_rows,
                                         const __nv_bfloat16* q_tile, const __nv_bfloat16* dy_tile,
                                         int query, const float* log2_lse, const float* delta,
                                         const AttentionShape& shape, const AttentionBits& bits,
                                         int query_tile, int key_tile) {
  using Plan = KeyPlan<kHeadSize>;
  using Keys = KeyState<kHeadSize>;
  const float log2_scale = shape.score_scale * kLog2E;
  Accumulators scores[Plan::kRowTiles] = {}, dp[Plan::kRowTiles] = {};  // transposed
#pragma unroll
  for (int c = 0; c < Plan::kColumnTiles; ++c) {
    unsigned b[2][2];
    lane.load_b(b, q_tile, query, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) {
      if constexpr (!Keys::kKeepsOperands) lane.load_a(state.k[r][0], k_rows, 16 * r, 16 * c);
      multiply(scores[r], state.k[r][c % Keys::kKept], b);
    }
    lane.load_b(b, dy_tile, query, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) {
      if constexpr (!Keys::kKeepsOperands) lane.load_a(state.v[r][0], v_rows, 16 * r, 16 * c);
      multiply(dp[r], state.v[r][c % Keys::kKept], b);
    }
  }
  float column_lse[4], column_delta[4];  // of queries 2t, 2t + 1, 2t + 8, 2t + 9
  const int column = query + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    column_lse[i] = log2_lse[column + i % 2 + i / 2 * 8];
    column_delta[i] = delta[column + i % 2 + i / 2 * 8];
  }
  unsigned p[Plan::kRowTiles][4], ds[Plan::kRowTiles][4];
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float& s = element(scores[r], e);
      s = exp2_approx(fmaf(s, log2_scale, -column_lse[e % 2 + e / 4 * 2]));
    }
    if constexpr (kDropout) {
      const TransposedKeep keep(bits.bits(query_tile, key_tile + r), shape.dropout.threshold);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float &s = element(scores[r], e), &d = element(dp[r], e);
        d = keep(e) ? d * shape.dropout.scale : 0.0f;
        d = s * (d - column_delta[e % 2 + e / 4 * 2]);
        if (!keep(e)) s = 0.0f;
      }
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float& d = element(dp[r], e);
        d = element(scores[r], e) * (d - column_delta[e % 2 + e / 4 * 2]);
      }
    }
    pack(p[r], scores[r]);
    pack(ds[r], dp[r]);
  }
#pragma unroll
  for (int c = 0; c < Plan::kColumnTiles; ++c) {
    unsigned b[2][2];
    lane.load_b_straight(b, dy_tile, query, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) multiply(state.dv[r][c], p[r], b);
    lane.load_b_straight(b, q_tile, query, 16 * c);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) multiply(state.dk[r][c], ds[r], b);
  }
}

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads, 2)
    mma_dkv_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* dy,
                   const __nv_bfloat16* qkv, const float* lse, const float* delta,
                   __nv_bfloat16* dqkv) {
  using Plan = KeyPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  static_assert(kMmaThreads == 2 * kStep);
  BERT_SHARED(float, statistics, 4 * kStep);  // [2 buffers][lse, delta][kStep]
  __nv_bfloat16* const k_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const v_tile = k_tile + Plan::kRows * kHeadSize;
  __nv_bfloat16* const q_tiles = v_tile + Plan::kRows * kHeadSize;
  __nv_bfloat16* const dy_tiles = q_tiles + 2 * Plan::kStepElements;

  const AttentionTile tile = find_tile(shape, Plan::kRows, per_sequence);
  if (tile.row >= tile.length) return;
  const BackwardRows rows(shape, tile, kHeadSize, qkv, dy, dy);
  const auto copy_step = [&](int query) {
    const int buffer = query / kStep % 2 * Plan::kStepElements;
    Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), q_tiles + buffer, kStep,
                                          rows.q, rows.qkv_stride, query, tile.length);
    Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), dy_tiles + buffer, kStep,
                                          rows.dy, rows.y_stride, query, tile.length);
  };
  // A thread's share of a step's statistics.
  const auto statistic = [&](int query) {
    const int place = query + static_cast<int>(threadIdx.x) % kStep;
    if (place >= tile.length) return 0.0f;
    return threadIdx.x >= kStep ? delta[rows.statistics + place]
                                : lse[rows.statistics + place] * kLog2E;
  };
  Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), k_tile, Plan::kRows, rows.k,
                                        rows.qkv_stride, tile.row, tile.length);
  Tile::template copy_rows<kMmaThreads>(static_cast<int>(threadIdx.x), v_tile, Plan::kRows, rows.v,
                                        rows.qkv_stride, tile.row, tile.length);
  copy_step(0);
  if (kStep < tile.length) copy_step(kStep);
  cp_async_commit();
  statistics[threadIdx.x] = statistic(0);

  const MmaLane<kHeadSize> lane;
  const AttentionBits bits(shape, tile);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_row = warp * Plan::kWarpRows, key = tile.row + warp_row;
  const bool has_keys = key < tile.length;
  __nv_bfloat16* const k_rows = k_tile + warp_row * kHeadSize;
  __nv_bfloat16* const v_rows = v_tile + warp_row * kHeadSize;
  KeyState<kHeadSize> state;
  zero(state.dk);
  zero(state.dv);

  for (int query = 0; query < tile.length; query += kStep) {
    cp_async_wait<0>();
    __syncthreads();  // also: all have read the other buffer
    if (query > 0 && query + kStep < tile.length) copy_step(query + kStep);
    cp_async_commit();
    const float next = statistic(query + kStep);  // on its way while this step computes
    const int buffer = query / kStep % 2;
    if (has_keys) {
      if (KeyState<kHeadSize>::kKeepsOperands && query == 0) {
#pragma unroll
        for (int r = 0; r < Plan::kRowTiles; ++r) {
#pragma unroll
          for (int c = 0; c < KeyState<kHeadSize>::kKept; ++c) {
            lane.load_a(state.k[r][c], k_rows, 16 * r, 16 * c);
            lane.load_a(state.v[r][c], v_rows, 16 * r, 16 * c);
          }
        }
      }
      const float* const log2_lse = statistics + buffer * 2 * kStep;
      const int queries = min(kStep, tile.length - query);
#pragma unroll 1
      for (int i = 0; i < queries; i += 16) {
        dkv_step<kHeadSize, kDropout>(state, lane, k_rows, v_rows,
                                      q_tiles + buffer * Plan::kStepElements,
                                      dy_tiles + buffer * Plan::kStepElements, i, log2_lse,
                                      log2_lse + kStep, shape, bits, (query + i) / 16, key / 16);
      }
    }
    statistics[(1 - buffer) * 2 * kStep + threadIdx.x] = next;
  }
  if (!has_keys) return;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    const float dk_scale[2] = {shape.score_scale, shape.score_scale};
    const float dv_scale[2] = {shape.dropout.scale, shape.dropout.scale};
    const int offset = 16 * r * kHeadSize;
    store_rows<kHeadSize>(state.dk[r], dk_scale, k_rows + offset, dqkv + (rows.k - qkv),
                          rows.qkv_stride, key + 16 * r, tile.length);
    store_rows<kHeadSize>(state.dv[r], dv_scale, v_rows + offset, dqkv + (rows.v - qkv),
                          rows.qkv_stride, key + 16 * r, tile.length);
  }
}

}  // namespace

void attention_backward_mma(const AttentionShape& shape, const __nv_bfloat16* dy,
                            const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse,
                            float* delta, __nv_bfloat16* dqkv, cudaStream_t stream) {
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    using Queries = QueryPlan<kHeadSize>;
    launch("attention_mma_dq", mma_dq_kernel<kHeadSize, kDropout>,
           {attention_grid(shape, Queries::kRows), dim3(kMmaThreads), Queries::kSharedBytes},
           stream, shape, tiles_per_sequence(shape, Queries::kRows), dy, y, qkv, lse, delta, dqkv);
    using Keys = KeyPlan<kHeadSize>;
    launch("attention_mma_dkv", mma_dkv_kernel<kHeadSize, kDropout>,
           {attention_grid(shape, Keys::kRows), dim3(kMmaThreads), Keys::kSharedBytes}, stream,
           shape, tiles_per_sequence(shape, Keys::kRows), dy, qkv, lse, delta, dqkv);
  });
}

}  // namespace bert::BERT_CUDA
