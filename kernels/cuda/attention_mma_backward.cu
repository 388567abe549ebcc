// Flash attention backward in bf16 on tensor cores (Dao 2023, "FlashAttention-2"), for packed
// sequences of any length; head sizes 32, 64, 128. docs/derivations/attention.md derives it; with P
// had again from the saved lse, M the dropout factors and delta_i = dy_i . y_i:
//   dV = (M * P)^T dy,  dP = M * (dy V^T),  dS = P * (dP - delta),  dQ = dS K / sqrt(HS),
//   dK = dS^T Q / sqrt(HS).
// The factor s of what M keeps is left out of P, dS and delta, and multiplied with the sums at the
// end: dS / s = P * ([M > 0] * (dy V^T) - delta / s).
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
// walks over keys, 16 at a time, in steps of 64. For dK and dV a warp has 16 keys, whose fragments
// of K and V stay in registers with both sums, and walks over queries in the same way; there keys
// lie along the rows, so that P^T and dS^T are operands as they are, and a lane's dropout bits are
// those of two other lanes. Tiles past a sequence's end are not computed.
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
  if (has_queries) {
    y_rows.multiply(delta_rows + warp_row, dy_tile, warp_row, 1.0f / shape.dropout.scale);
  }
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
    const float factor = shape.score_scale * shape.dropout.scale, scale[2] = {factor, factor};
    store_rows<kHeadSize>(dq[r], scale, q_tile + (warp_row + 16 * r) * kHeadSize,
                          dqkv + (rows.q - qkv), shape.qkv_stride, query + 16 * r, tile.length);
  }
}

// --- dK, dV --------------------------------------------------------------------------------------

template <int kHeadSize>
struct KeyPlan {
  static constexpr int kWarpKeys = 16;
  static constexpr int kKeys = kMmaWarps * kWarpKeys;
  static constexpr int kColumnTiles = kHeadSize / 16;
  static constexpr int kQueries = 64;  // at a time
  static constexpr int kStepElements = kQueries * kHeadSize;
  static constexpr std::size_t kSharedBytes =
      std::size_t{2 * kKeys + 4 * kQueries} * kHeadSize * sizeof(__nv_bfloat16);
};

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads, 2)
    mma_dkv_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* dy,
                   const __nv_bfloat16* qkv, const float* lse, const float* delta,
                   __nv_bfloat16* dqkv) {
  using Plan = KeyPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kQueries = Plan::kQueries;
  static_assert(kMmaThreads == 2 * kQueries);
  BERT_SHARED(float, statistics, 4 * kQueries);  // [2 buffers][lse log2(e), delta][kQueries]
  __nv_bfloat16* const k_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const v_tile = k_tile + Plan::kKeys * kHeadSize;
  __nv_bfloat16* const q_tiles = v_tile + Plan::kKeys * kHeadSize;
  __nv_bfloat16* const dy_tiles = q_tiles + 2 * Plan::kStepElements;

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
  const AttentionBits bits(shape, tile);
  const int own_key = warp * Plan::kWarpKeys;
  const bool has_keys = tile.row + own_key < tile.length;
  unsigned k[Plan::kColumnTiles][4], v[Plan::kColumnTiles][4];
  Accumulators dk[1][Plan::kColumnTiles], dv[1][Plan::kColumnTiles];
  zero(dk);
  zero(dv);
  for (int query = 0; query < tile.length; query += kQueries) {
    const int buffer = query / kQueries % 2;
    statistics[buffer * 2 * kQueries + thread] = next;
    cp_async_wait<0>();
    __syncthreads();  // also: all have read the other buffer
    if (query + kQueries < tile.length) copy_step(query + kQueries);
    cp_async_commit();
    next = statistic(query + kQueries);  // on its way while this step computes
    if (!has_keys) continue;
    if (query == 0) {
#pragma unroll
      for (int c = 0; c < Plan::kColumnTiles; ++c) {
        lane.load_a(k[c], k_tile, own_key, 16 * c);
        lane.load_a(v[c], v_tile, own_key, 16 * c);
      }
    }
    const int queries = min(kQueries, tile.length - query);
#pragma unroll 1
    for (int i = 0; i < queries; i += 16) {
      const __nv_bfloat16* const q_rows = q_tiles + buffer * Plan::kStepElements + i * kHeadSize;
      const __nv_bfloat16* const dy_rows = dy_tiles + buffer * Plan::kStepElements + i * kHeadSize;
      Accumulators scores = {}, dp = {};
#pragma unroll
      for (int c = 0; c < Plan::kColumnTiles; ++c) {
        unsigned b[2][2];
        lane.load_b(b, q_rows, 0, 16 * c);
        multiply(scores, k[c], b);
        lane.load_b(b, dy_rows, 0, 16 * c);
        multiply(dp, v[c], b);
      }
      unsigned p[4], ds[4];
      const ColumnStatistics columns(statistics + buffer * 2 * kQueries + i, kQueries);
      transposed_score_tile<kDropout>(p, ds, scores, dp, columns, shape, bits, (query + i) / 16,
                                      (tile.row + own_key) / 16);
#pragma unroll
      for (int c = 0; c < Plan::kColumnTiles; ++c) {
        unsigned b[2][2];
        lane.load_b_straight(b, dy_rows, 0, 16 * c);
        multiply(dv[0][c], p, b);
        lane.load_b_straight(b, q_rows, 0, 16 * c);
        multiply(dk[0][c], ds, b);
      }
    }
  }
  if (!has_keys) return;
  // Only this warp has read these rows of k and v.
  const float factor = shape.score_scale * shape.dropout.scale;
  const float k_scale[2] = {factor, factor};
  const float v_scale[2] = {shape.dropout.scale, shape.dropout.scale};
  store_rows<kHeadSize>(dv[0], v_scale, v_tile + own_key * kHeadSize, dqkv + (rows.v - qkv),
                        shape.qkv_stride, tile.row + own_key, tile.length);
  store_rows<kHeadSize>(dk[0], k_scale, k_tile + own_key * kHeadSize, dqkv + (rows.k - qkv),
                        shape.qkv_stride, tile.row + own_key, tile.length);
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
