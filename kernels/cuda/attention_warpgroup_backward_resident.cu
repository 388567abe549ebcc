// Flash attention backward in bf16 by warpgroups, on Hopper, for a head size of 64, where one block
// holds a whole sequence: one head, max_seqlen <= kResidentBackward. What
// attention_mma_backward_resident.cu does, equations and two halves of a step alike, with products
// (wgmma) that read their operands straight from shared memory, and tiles that one thread asks for
// (TMA).
//
// Work, for one head of a sequence of T tokens: 10 T^2 HS operations in five products, dropout bits
// and exponentials once; 16 T HS bytes, each moved once. At T = 128 memory is the limit.
//
// Layout: a warpgroup has 64 queries; two of them, and two blocks a multiprocessor, up to T = 128,
// four and one block beyond. In shared memory Q and dy, two buffers of 64 keys and values, and P
// and dS [T, 64] of one step: 96 KB at T = 128, 160 KB at T = 256. A step is 64 keys and has two
// halves:
//   1. A warpgroup computes S, dP, P, dS of its queries, 32 keys at a time, and dQ += dS K; P and
//      dS go to shared memory.
//   2. Half of the warpgroups sum dV = P^T dy, half dK = dS^T Q, over all queries; where there are
//      four, each for half of the columns. Where K and V of the step lay, both are staged on their
//      way out.
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_warpgroup.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kKeys = kWarpgroupRows;               // of a step
constexpr int kHalf = 32, kHalfTiles = kHalf / 16;  // computed at once
static_assert(kKeys == kExchangeKeys);

template <int kGroups>
struct Plan {
  static constexpr int kThreads = kWarpgroup * kGroups;
  static constexpr int kQueries = kWarpgroupRows * kGroups;
  static constexpr std::size_t kSharedBytes = warpgroup_shared_bytes(4 * kGroups + 4);
  // Columns of dv or dk of a step's keys that a warpgroup sums.
  static constexpr int kSumColumns = kWarpgroupHead / (kGroups / 2);
};

template <bool kDropout, int kGroups>
__global__ void __launch_bounds__(kWarpgroup* kGroups, 4 / kGroups)
    warpgroup_backward_resident_kernel(const __grid_constant__ AttentionShape shape,
                                       const __grid_constant__ TileSource dy,
                                       const __nv_bfloat16* y,
                                       const __grid_constant__ TileSource qkv, const float* lse,
                                       __nv_bfloat16* dqkv) {
#ifdef BERT_HAS_WARPGROUPS
  using P = Plan<kGroups>;
  BERT_SHARED(TileBarrier, arrived, 2);  // for each buffer
  BERT_SHARED(float, delta_rows, P::kQueries);
  __nv_bfloat16* const q_tile = warpgroup_tiles();
  __nv_bfloat16* const dy_tile = q_tile + kGroups * kWarpgroupTile;
  __nv_bfloat16* const k_tiles = dy_tile + kGroups * kWarpgroupTile;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * kWarpgroupTile;
  __nv_bfloat16* const p_tile = v_tiles + 2 * kWarpgroupTile;
  __nv_bfloat16* const ds_tile = p_tile + kGroups * kWarpgroupTile;

  zero_tail(shape, dqkv, 3 * shape.channels());
  const int sequence = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  if (sequence >= *shape.num_sequences) return;
  const AttentionTile tile = sequence_tile(shape, sequence, head);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int group = thread / kWarpgroup;
  const int column = head * kWarpgroupHead, width = shape.y_stride;
  __nv_bfloat16* const dq_rows = dqkv + std::int64_t{tile.first} * shape.qkv_stride + column;
  // Keys and values of a step, by one thread.
  const auto load_step = [&](int key) {
    const int buffer = key / kKeys % 2, row = tile.first + key;
    arrived[buffer].load(k_tiles + buffer * kWarpgroupTile, qkv, row, width + column);
    arrived[buffer].load(v_tiles + buffer * kWarpgroupTile, qkv, row, 2 * width + column);
  };
  const int query_tiles = (tile.length + kWarpgroupRows - 1) / kWarpgroupRows;
  if (thread == 0) {
    begin_barriers(arrived);
    arrived[0].expect_tiles(2 * query_tiles + 2);
    for (int i = 0; i < query_tiles; ++i) {
      arrived[0].load(q_tile + i * kWarpgroupTile, qkv, tile.first + kWarpgroupRows * i, column);
      arrived[0].load(dy_tile + i * kWarpgroupTile, dy, tile.first + kWarpgroupRows * i, column);
    }
    load_step(0);
    if (kKeys < tile.length) {
      arrived[1].expect_tiles(2);
      load_step(kKeys);
    }
  }
  const int query = warp * 16;  // of the warp
  const bool has_queries = group * kWarpgroupRows < tile.length;
  const OutputRows<kWarpgroupHead, 16> y_rows(y + tile.first * shape.channels() + column,
                                              shape.y_stride, query, tile.length);
  QueryStatistics statistics;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = query + thread % 32 / 4 + 8 * i;
    statistics.log2_lse[i] =
        row < tile.length ? lse[head * shape.capacity + tile.first + row] * kLog2E : 0.0f;
  }
  __syncthreads();  // the barriers are there
  arrived[0].wait(0);
  if (const int rows = tile.length % kWarpgroupRows; rows != 0) {
    if (group == 0) {
      zero_tile_rows(q_tile + (query_tiles - 1) * kWarpgroupTile, rows);
      zero_tile_rows(dy_tile + (query_tiles - 1) * kWarpgroupTile, rows);
    }
    warpgroup_operands_written();
    __syncthreads();
  }
  if (has_queries) y_rows.multiply(delta_rows + query, dy_tile, query, 1.0f / shape.dropout.scale);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    statistics.delta[i] = has_queries ? delta_rows[query + thread % 32 / 4 + 8 * i] : 0.0f;
  }

  const AttentionBits bits(shape, tile);
  const ExchangeLane exchange;
  const WarpgroupOperand q_operand = warpgroup_operand(q_tile + group * kWarpgroupTile);
  const WarpgroupOperand dy_operand = warpgroup_operand(dy_tile + group * kWarpgroupTile);
  const WarpgroupOperand k_operands = warpgroup_operand(k_tiles);
  const WarpgroupOperand v_operands = warpgroup_operand(v_tiles);
  // The second half of a step.
  const bool of_dv = group < kGroups / 2;
  const int own_column = group % (kGroups / 2) * P::kSumColumns;
  const WarpgroupOperand left = warpgroup_operand(of_dv ? p_tile : ds_tile);
  const WarpgroupOperand right = warpgroup_operand((of_dv ? dy_tile : q_tile) + own_column);
  Accumulators dq[1][kWarpgroupColumnTiles];
  zero(dq);
  for (int key = 0; key < tile.length; key += kKeys) {
    const int step = key / kKeys;
    arrived[step % 2].wait(step / 2);
    if (tile.length - key < kKeys) {
      if (group == 0) {
        zero_tile_rows(k_tiles + step % 2 * kWarpgroupTile, tile.length - key);
        zero_tile_rows(v_tiles + step % 2 * kWarpgroupTile, tile.length - key);
      }
      warpgroup_operands_written();
      __syncthreads();
    }
    if (has_queries) {
      const int step_end = min(key + kKeys, tile.length);
#pragma unroll 1
      for (int half = key; half < step_end; half += kHalf) {
        const WarpgroupOperand place = half % (2 * kKeys) / 16 * kOperandRows;
        const WarpgroupOperand k_operand = k_operands + place, v_operand = v_operands + place;
        Accumulators scores[kHalfTiles], dp[kHalfTiles];
        multiply_both(scores, q_operand, k_operand, dp, dy_operand, v_operand);
        unsigned ds[kHalfTiles][4];
#pragma unroll
        for (int k = 0; k < kHalfTiles; ++k) {
          unsigned p[4];
          score_tile<kDropout>(p, ds[k], scores[k], dp[k], tile.length - half - 16 * k, statistics,
                               shape, bits, query / 16, half / 16 + k);
          exchange.store(p_tile + query * kKeys, 0, half % kKeys + 16 * k, p);
          exchange.store(ds_tile + query * kKeys, 0, half % kKeys + 16 * k, ds[k]);
        }
        add_product(dq[0], ds, k_operand);
      }
    }
    warpgroup_operands_written();
    __syncthreads();  // P and dS are there; all have multiplied with k and v

    Accumulators sums[1][P::kSumColumns / 16];
    zero(sums);
    warpgroup_begin();
#pragma unroll 4
    for (int i = 0; i < query_tiles * 4; ++i) {
      warpgroup_mma_transposed(sums[0], left + i * kOperandRows, right + i * kOperandRows);
    }
    warpgroup_commit();
    warpgroup_wait();
    warpgroup_settle(sums[0]);
    const float factor = shape.dropout.scale * (of_dv ? 1.0f : shape.score_scale);
    const float scale[2] = {factor, factor};
    const int own_key = thread_anew() / 32 % 4 * 16;  // of the step's
    store_rows<kWarpgroupHead>(
        sums[0], scale,
        (of_dv ? v_tiles : k_tiles) + step % 2 * kWarpgroupTile + own_key * kWarpgroupHead,
        dq_rows + (of_dv ? 2 * width : width), shape.qkv_stride, key + own_key, tile.length,
        own_column);
    if (key + kKeys < tile.length) {
      warpgroup_operands_written();  // where the accelerator writes next
      __syncthreads();               // all have read P and dS
      if (thread == 0 && key + 2 * kKeys < tile.length) {
        arrived[step % 2].expect_tiles(2);
        load_step(key + 2 * kKeys);
      }
    }
  }
  __syncthreads();  // all have multiplied with q
  if (query >= tile.length) return;
  const float factor = shape.score_scale * shape.dropout.scale, scale[2] = {factor, factor};
  store_rows<kWarpgroupHead>(dq[0], scale, q_tile + query * kWarpgroupHead, dq_rows,
                             shape.qkv_stride, query, tile.length);
#endif
}

template <int kGroups>
void run(const AttentionShape& shape, const __nv_bfloat16* dy, const __nv_bfloat16* y,
         const __nv_bfloat16* qkv, const float* lse, __nv_bfloat16* dqkv, cudaStream_t stream) {
  using P = Plan<kGroups>;
  const dim3 grid(static_cast<unsigned>(shape.sequences), static_cast<unsigned>(shape.heads));
  launch("attention_warpgroup_backward_resident",
         shape.dropout.key != nullptr ? warpgroup_backward_resident_kernel<true, kGroups>
                                      : warpgroup_backward_resident_kernel<false, kGroups>,
         {grid, dim3(P::kThreads), P::kSharedBytes}, stream, shape,
         tile_source(dy, shape.capacity, shape.y_stride), y,
         tile_source(qkv, shape.capacity, shape.qkv_stride), lse, dqkv);
}

}  // namespace

bool attention_backward_warpgroup_resident(const AttentionShape& shape, const __nv_bfloat16* dy,
                                           const __nv_bfloat16* y, const __nv_bfloat16* qkv,
                                           const float* lse, __nv_bfloat16* dqkv,
                                           cudaStream_t stream) {
  static_assert(kResidentBackward <= Plan<4>::kQueries);
  if (!warpgroups_serve(shape) || shape.max_seqlen > kResidentBackward) return false;
  shape.max_seqlen <= Plan<2>::kQueries ? run<2>(shape, dy, y, qkv, lse, dqkv, stream)
                                        : run<4>(shape, dy, y, qkv, lse, dqkv, stream);
  return true;
}

}  // namespace bert::BERT_CUDA
