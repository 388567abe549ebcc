// Flash attention backward in bf16 on tensor cores (Dao 2023, "FlashAttention-2"), for packed
// sequences of any length; head sizes 32, 64, 128. docs/derivations/attention.md derives it; with P
// had again from the saved lse, M the dropout factors and delta_i = dy_i . y_i:
//   dV = (M * P)^T dy,  dP = M * (dy V^T),  dS = P * (dP - delta),  dQ = dS K / sqrt(HS),
//   dK = dS^T Q / sqrt(HS).
// attention_mma_backward_resident.cu is for sequences that fit in one block's shared memory.
//
// Two kernels. One has blocks that own queries, computes delta, S, dP and dQ, and leaves delta for
// the other; its blocks own keys and compute S, dP, dV and dK. That is seven products and P and M
// twice, where one kernel would need five and once. But such a kernel must sum dQ over the blocks
// of keys: by float atomics, which give other bits each time; or in one block for a whole sequence,
// f32 [T, HS] in shared memory or in registers, which leaves one block a multiprocessor at T = 512
// and too little room for the tiles that make fragments serve two mma each. Here every sum stays in
// registers in the order of the other side's rows, and any length is served alike.
//
// Work, for one head of a sequence of T tokens: 14 T^2 HS operations (10 is what is necessary),
// 24 T HS bytes read and written with the second level cache holding the other side: enough
// operations a byte for tensor cores, and not memory, to be the limit from T = 128 on. Beside them
// the dropout bits weigh most, as in forward.
//
// Layout: 4 warps, two blocks a multiprocessor; what passes by comes by cp.async into two buffers.
// For dQ a warp has 32 queries (16 at HS = 128), whose fragments of Q and dy stay in registers, and
// walks over keys, 16 at a time, in steps of 64. For dK and dV a block has 64 keys and walks over
// steps of 64 queries (32 at HS = 128). In the first half of a step a warp computes P and dS of
// half of the queries and half of the keys, whose fragments of K and V stay in registers (at HS =
// 128 are read again), and leaves both in shared memory; after a barrier each warp sums dV or dK of
// half of the keys over all queries of the step. Tiles past a sequence's end are not computed.
#include "kernels/cuda/attention_mma_backward.cuh"

namespace bert::BERT_CUDA {
namespace {

// --- dQ ------------------------------------------------------------------------------------------

template <int kHeadSize>
struct QueryPlan {
  static constexpr int kRowTiles = kHeadSize == 128 ? 1 : 2;  // of 16 queries, a warp
  static constexpr int kWarpQueries = 16 * kRowTiles;
  static constexpr int kQueries = kMmaWarps * kWarpQueries;
  static constexpr int kKeys = 64;  // at a time
  static constexpr int kStepElements = kKeys * kHeadSize;
  static constexpr std::size_t kSharedBytes =
      std::size_t{2 * kQueries + 4 * kKeys} * kHeadSize * sizeof(__nv_bfloat16);
};

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads, 2)
    mma_dq_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* dy,
                  const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse, float* delta,
                  __nv_bfloat16* dqkv) {
  using Plan = QueryPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  BERT_SHARED(float, log2_lse_rows, Plan::kQueries);
  BERT_SHARED(float, delta_rows, Plan::kQueries);
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const dy_tile = q_tile + Plan::kQueries * kHeadSize;
  __nv_bfloat16* const k_tiles = dy_tile + Plan::kQueries * kHeadSize;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * Plan::kStepElements;

  zero_tail(shape, dqkv, 3 * shape.channels());
  const AttentionTile tile = find_tile(shape, Plan::kQueries, per_sequence);
  if (tile.row >= tile.length) return;
  const BackwardRows rows(shape, tile, kHeadSize, qkv, dy, y);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const auto copy = [&](__nv_bfloat16* to, int count, const __nv_bfloat16* from, int stride,
                        int row) {
    Tile::template copy_rows<kMmaThreads>(thread, to, count, from, stride, row, tile.length);
  };
  const auto copy_step = [&](int key) {
    const int buffer = key / Plan::kKeys % 2 * Plan::kStepElements;
    copy(k_tiles + buffer, Plan::kKeys, rows.k, shape.qkv_stride, key);
    copy(v_tiles + buffer, Plan::kKeys, rows.v, shape.qkv_stride, key);
  };
  copy(q_tile, Plan::kQueries, rows.q, shape.qkv_stride, tile.row);
  copy(dy_tile, Plan::kQueries, rows.dy, shape.y_stride, tile.row);
  copy_step(0);
  cp_async_commit();
  if (Plan::kKeys < tile.length) copy_step(Plan::kKeys);
  cp_async_commit();

  const int warp_row = warp * Plan::kWarpQueries, query = tile.row + warp_row;
  const bool has_queries = query < tile.length;
  const OutputRows<kHeadSize, Plan::kWarpQueries> y_rows(rows.y, shape.y_stride, query,
                                                         tile.length);
  if (thread < Plan::kQueries) {
    const int q = tile.row + thread;
    log2_lse_rows[thread] = q < tile.length ? lse[rows.statistics + q] * kLog2E : 0.0f;
  }
  cp_async_wait<1>();
  __syncthreads();
  if (has_queries) y_rows.multiply(delta_rows + warp_row, dy_tile, warp_row);
  __syncwarp();

  const MmaLane<kHeadSize> lane;
  const AttentionBits bits(shape, tile);
  QueryOperands<kHeadSize, Plan::kRowTiles> operands;
  Accumulators dq[Plan::kRowTiles][kHeadSize / 16];
  zero(dq);
  if (has_queries) {
    operands.load(lane, q_tile, dy_tile, warp_row, log2_lse_rows + warp_row, delta_rows + warp_row);
    const int own = thread % 32;  // for the kernel of dK and dV
    if (own < Plan::kWarpQueries && query + own < tile.length) {
      delta[rows.statistics + query + own] = delta_rows[warp_row + own];
    }
  }
  for (int key = 0; key < tile.length; key += Plan::kKeys) {
    if (key > 0) {
      cp_async_wait<0>();
      __syncthreads();  // also: all have read the other buffer
      if (key + Plan::kKeys < tile.length) copy_step(key + Plan::kKeys);
      cp_async_commit();
    }
    if (!has_queries) continue;
    const int buffer = key / Plan::kKeys % 2 * Plan::kStepElements;
    const int keys = min(Plan::kKeys, tile.length - key);
#pragma unroll 1
    for (int k = 0; k < keys; k += 16) {
      unsigned p[Plan::kRowTiles][4], ds[Plan::kRowTiles][4];
      query_step<kDropout>(p, ds, dq, operands, lane, k_tiles + buffer + k * kHeadSize,
                           v_tiles + buffer + k * kHeadSize, keys - k, shape, bits, query / 16,
                           (key + k) / 16);
    }
  }
  if (!has_queries) return;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    const float scale[2] = {shape.score_scale, shape.score_scale};
    store_rows<kHeadSize>(dq[r], scale, q_tile + (warp_row + 16 * r) * kHeadSize,
                          dqkv + (rows.q - qkv), shape.qkv_stride, query + 16 * r, tile.length);
  }
}

// --- dK, dV --------------------------------------------------------------------------------------

template <int kHeadSize>
struct KeyPlan {
  static constexpr int kKeys = kExchangeKeys;  // of a block
  static constexpr int kWarpKeys = kKeys / 2;  // in both halves of a step
  static constexpr int kKeyTiles = kWarpKeys / 16;
  static constexpr int kRowTiles = kHeadSize == 128 ? 1 : 2;  // of 16 queries, a warp
  static constexpr int kQueries = 2 * 16 * kRowTiles;         // of a step
  static constexpr int kColumnTiles = kHeadSize / 16;
  static constexpr int kStepElements = kQueries * kHeadSize;
  static constexpr std::size_t kSharedBytes =
      std::size_t{2 * kKeys * kHeadSize + 4 * kStepElements + 2 * kQueries * kExchangeKeys} *
      sizeof(__nv_bfloat16);
  // Registers suffice for the sums and these up to HS = 64; beyond, they are read in each step.
  static constexpr bool kKeepsOperands = kHeadSize <= 64;
};

// B operands of a warp's keys.
template <int kHeadSize>
struct KeyOperands {
  using Plan = KeyPlan<kHeadSize>;
  static constexpr int kKept = Plan::kKeepsOperands ? Plan::kColumnTiles : 1;
  unsigned k[Plan::kKeyTiles][kKept][2][2];
  unsigned v[Plan::kKeyTiles][kKept][2][2];

  __device__ void load(const MmaLane<kHeadSize>& lane, const __nv_bfloat16* k_rows,
                       const __nv_bfloat16* v_rows, int c) {
#pragma unroll
    for (int i = 0; i < Plan::kKeyTiles; ++i) {
      lane.load_b(k[i][c % kKept], k_rows, 16 * i, 16 * c);
      lane.load_b(v[i][c % kKept], v_rows, 16 * i, 16 * c);
    }
  }
};

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads, 2)
    mma_dkv_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* dy,
                   const __nv_bfloat16* qkv, const float* lse, const float* delta,
                   __nv_bfloat16* dqkv) {
  using Plan = KeyPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kQueries = Plan::kQueries;
  static_assert(kMmaThreads >= 2 * kQueries && kMmaWarps == 4);
  BERT_SHARED(float, statistics, 4 * kQueries);  // [2 buffers][lse log2(e), delta][kQueries]
  __nv_bfloat16* const k_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const v_tile = k_tile + Plan::kKeys * kHeadSize;
  __nv_bfloat16* const q_tiles = v_tile + Plan::kKeys * kHeadSize;
  __nv_bfloat16* const dy_tiles = q_tiles + 2 * Plan::kStepElements;
  __nv_bfloat16* const p_tile = dy_tiles + 2 * Plan::kStepElements;
  __nv_bfloat16* const ds_tile = p_tile + kQueries * kExchangeKeys;

  const AttentionTile tile = find_tile(shape, Plan::kKeys, per_sequence);
  if (tile.row >= tile.length) return;
  const BackwardRows rows(shape, tile, kHeadSize, qkv, dy, dy);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const auto copy = [&](__nv_bfloat16* to, int count, const __nv_bfloat16* from, int stride,
                        int row) {
    Tile::template copy_rows<kMmaThreads>(thread, to, count, from, stride, row, tile.length);
  };
  const auto copy_step = [&](int query) {
    const int buffer = query / kQueries % 2 * Plan::kStepElements;
    copy(q_tiles + buffer, kQueries, rows.q, shape.qkv_stride, query);
    copy(dy_tiles + buffer, kQueries, rows.dy, shape.y_stride, query);
  };
  // A thread's share of a step's statistics.
  const float* const own_statistics =
      (thread < kQueries ? lse : delta) + rows.statistics + thread % kQueries;
  const auto statistic = [&](int query) {
    if (query + thread % kQueries >= tile.length) return 0.0f;
    return own_statistics[query] * (thread < kQueries ? kLog2E : 1.0f);
  };
  copy(k_tile, Plan::kKeys, rows.k, shape.qkv_stride, tile.row);
  copy(v_tile, Plan::kKeys, rows.v, shape.qkv_stride, tile.row);
  copy_step(0);
  cp_async_commit();
  float next = statistic(0);

  const MmaLane<kHeadSize> lane;
  const MmaLane<kExchangeKeys> exchange_lane;
  const ExchangeLane exchange;
  const AttentionBits bits(shape, tile);
  // First half of a step: P and dS of half of its queries and half of the keys. Second half: dv or
  // dk of half of the keys.
  const int own_query = warp / 2 * 16 * Plan::kRowTiles, own_key = warp % 2 * Plan::kWarpKeys;
  const bool has_keys = tile.row + own_key < tile.length, of_dv = warp < 2;
  KeyOperands<kHeadSize> operands;
  Accumulators sums[Plan::kKeyTiles][Plan::kColumnTiles];
  zero(sums);
  for (int query = 0; query < tile.length; query += kQueries) {
    const int buffer = query / kQueries % 2;
    if (thread < 2 * kQueries) statistics[buffer * 2 * kQueries + thread] = next;
    cp_async_wait<0>();
    __syncthreads();  // also: all have read the other buffer, P and dS
    if (query + kQueries < tile.length) copy_step(query + kQueries);
    cp_async_commit();
    next = statistic(query + kQueries);  // on its way while this step computes
    const __nv_bfloat16* const q_tile = q_tiles + buffer * Plan::kStepElements;
    const __nv_bfloat16* const dy_tile = dy_tiles + buffer * Plan::kStepElements;
    const int queries = min(kQueries, tile.length - query);
    if (Plan::kKeepsOperands && query == 0) {
#pragma unroll
      for (int c = 0; c < Plan::kColumnTiles; ++c) {
        operands.load(lane, k_tile + own_key * kHeadSize, v_tile + own_key * kHeadSize, c);
      }
    }
    if (has_keys) {
#pragma unroll 1
      for (int r = own_query; r < min(queries, own_query + 16 * Plan::kRowTiles); r += 16) {
        Accumulators scores[Plan::kKeyTiles] = {}, dp[Plan::kKeyTiles] = {};
#pragma unroll
        for (int c = 0; c < Plan::kColumnTiles; ++c) {
          if constexpr (!Plan::kKeepsOperands) {
            operands.load(lane, k_tile + own_key * kHeadSize, v_tile + own_key * kHeadSize, c);
          }
          unsigned a[4];
          lane.load_a(a, q_tile + r * kHeadSize, 0, 16 * c);
#pragma unroll
          for (int i = 0; i < Plan::kKeyTiles; ++i) {
            multiply(scores[i], a, operands.k[i][c % KeyOperands<kHeadSize>::kKept]);
          }
          lane.load_a(a, dy_tile + r * kHeadSize, 0, 16 * c);
#pragma unroll
          for (int i = 0; i < Plan::kKeyTiles; ++i) {
            multiply(dp[i], a, operands.v[i][c % KeyOperands<kHeadSize>::kKept]);
          }
        }
        const float* const own = statistics + buffer * 2 * kQueries + r + thread % 32 / 4;
        const RowStatistics row_statistics{{own[0], own[8]}, {own[kQueries], own[kQueries + 8]}};
#pragma unroll
        for (int i = 0; i < Plan::kKeyTiles; ++i) {
          const int key = tile.row + own_key + 16 * i;
          unsigned p[4], ds[4];
          score_tile<kDropout>(p, ds, scores[i], dp[i], tile.length - key, row_statistics, shape,
                               bits, (query + r) / 16, key / 16);
          exchange.store(p_tile + r * kExchangeKeys, 0, own_key + 16 * i, p);
          exchange.store(ds_tile + r * kExchangeKeys, 0, own_key + 16 * i, ds);
        }
      }
    }
    __syncthreads();  // P and dS of the step are there
    if (has_keys) {
      add_transposed(sums, exchange_lane, lane, of_dv ? p_tile : ds_tile, of_dv ? dy_tile : q_tile,
                     queries, own_key, 0);
    }
  }
  if (!has_keys) return;
  // All warps have read k and v for the last time before the last barrier.
  const float factor = of_dv ? shape.dropout.scale : shape.score_scale;
  const float scale[2] = {factor, factor};
#pragma unroll
  for (int i = 0; i < Plan::kKeyTiles; ++i) {
    const int key = own_key + 16 * i;
    store_rows<kHeadSize>(sums[i], scale, (of_dv ? v_tile : k_tile) + key * kHeadSize,
                          dqkv + ((of_dv ? rows.v : rows.k) - qkv), shape.qkv_stride,
                          tile.row + key, tile.length);
  }
}

}  // namespace

void attention_backward_mma(const AttentionShape& shape, const __nv_bfloat16* dy,
                            const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse,
                            float* delta, __nv_bfloat16* dqkv, cudaStream_t stream) {
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    using Queries = QueryPlan<kHeadSize>;
    launch("attention_mma_dq", mma_dq_kernel<kHeadSize, kDropout>,
           {attention_grid(shape, Queries::kQueries), dim3(kMmaThreads), Queries::kSharedBytes},
           stream, shape, tiles_per_sequence(shape, Queries::kQueries), dy, y, qkv, lse, delta,
           dqkv);
    using Keys = KeyPlan<kHeadSize>;
    launch("attention_mma_dkv", mma_dkv_kernel<kHeadSize, kDropout>,
           {attention_grid(shape, Keys::kKeys), dim3(kMmaThreads), Keys::kSharedBytes}, stream,
           shape, tiles_per_sequence(shape, Keys::kKeys), dy, qkv, lse, delta, dqkv);
  });
}

}  // namespace bert::BERT_CUDA
