// Flash attention backward in bf16 by warpgroups, on Hopper, for a head size of 64 and sequences of
// any length: what attention_mma_backward.cu does, equations and two kernels alike, with products
// (wgmma) that read their operands straight from shared memory, and tiles that one thread asks for
// (TMA). attention_warpgroup_backward_resident.cu is for sequences that fit in one block.
//
// Work, for one head of a sequence of T tokens: 14 T^2 HS operations (10 is what is necessary),
// 24 T HS bytes where the second level cache holds what passes by. A 16 x 16 tile takes some 145
// instructions in the kernel of dQ and 155 in that of dK and dV, of which its dropout bits are a
// third.
//
// Layout: a block is one warpgroup. For dQ it has 64 queries, four blocks a multiprocessor; for dK
// and dV 64 keys, three blocks. The others pass by in steps of 64, in two buffers, and are computed
// with 32 at a time, which keeps to 128 and 168 registers a thread; shared memory is 48 KB. In the
// kernel of dK and dV keys lie along the rows, so that P^T and dS^T are operands as they are.
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_warpgroup.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kRows = kWarpgroupRows, kStep = kWarpgroupRows;
constexpr int kHalf = 32, kHalfTiles = kHalf / 16;  // of a step: what is computed with at once

// --- dQ ------------------------------------------------------------------------------------------

template <bool kDropout>
__global__ void __launch_bounds__(kWarpgroup, 4)
    warpgroup_dq_kernel(const __grid_constant__ AttentionShape shape, int per_sequence,
                        const __grid_constant__ TileSource dy, const __nv_bfloat16* y,
                        const __grid_constant__ TileSource qkv, const float* lse, float* delta,
                        __nv_bfloat16* dqkv) {
#ifdef BERT_HAS_WARPGROUPS
  BERT_SHARED(TileBarrier, arrived, 2);  // for each buffer
  BERT_SHARED(float, delta_rows, kRows);
  __nv_bfloat16* const q_tile = warpgroup_tiles();
  __nv_bfloat16* const dy_tile = q_tile + kWarpgroupTile;
  __nv_bfloat16* const k_tiles = dy_tile + kWarpgroupTile;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * kWarpgroupTile;

  zero_tail(shape, dqkv, 3 * shape.channels());
  const AttentionTile tile = find_tile(shape, kRows, per_sequence);
  if (tile.row >= tile.length) return;
  const int thread = static_cast<int>(threadIdx.x), warp_row = thread / 32 * 16;
  const int column = tile.head * kWarpgroupHead, width = shape.y_stride;
  // Keys and values of a step, by one thread.
  const auto load_step = [&](int key) {
    const int buffer = key / kStep % 2, row = tile.first + key;
    arrived[buffer].load(k_tiles + buffer * kWarpgroupTile, qkv, row, width + column);
    arrived[buffer].load(v_tiles + buffer * kWarpgroupTile, qkv, row, 2 * width + column);
  };
  if (thread == 0) {
    begin_barriers(arrived);
    arrived[0].expect_tiles(4);
    arrived[0].load(q_tile, qkv, tile.first + tile.row, column);
    arrived[0].load(dy_tile, dy, tile.first + tile.row, column);
    load_step(0);
  }

  const int query = tile.row + warp_row;  // of the warp
  const OutputRows<kWarpgroupHead, 16> y_rows(y + tile.first * shape.channels() + column,
                                              shape.y_stride, query, tile.length);
  __syncthreads();  // the barriers are there
  arrived[0].wait(0);
  if (tile.length - tile.row < kRows) {
    zero_tile_rows(q_tile, tile.length - tile.row);
    zero_tile_rows(dy_tile, tile.length - tile.row);
    warpgroup_operands_written();
    __syncthreads();
  }
  y_rows.multiply(delta_rows + warp_row, dy_tile, warp_row, 1.0f / shape.dropout.scale);
  __syncwarp();
  QueryStatistics statistics;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = warp_row + thread % 32 / 4 + 8 * i;
    const bool valid = tile.row + row < tile.length;
    const std::int64_t place = tile.head * shape.capacity + tile.first + tile.row + row;
    statistics.log2_lse[i] = valid ? lse[place] * kLog2E : 0.0f;
    statistics.delta[i] = delta_rows[row];
    if (thread % 4 == 0 && valid) delta[place] = delta_rows[row];  // for the kernel of dK and dV
  }

  const AttentionBits bits(shape, tile);
  const WarpgroupOperand q_operand = warpgroup_operand(q_tile);
  const WarpgroupOperand dy_operand = warpgroup_operand(dy_tile);
  const WarpgroupOperand k_operands = warpgroup_operand(k_tiles);
  const WarpgroupOperand v_operands = warpgroup_operand(v_tiles);
  Accumulators dq[1][kWarpgroupColumnTiles];
  zero(dq);
  for (int key = 0; key < tile.length; key += kStep) {
    const int step = key / kStep;
    __syncthreads();  // all have multiplied with the other buffer
    if (thread == 0 && key + kStep < tile.length) {
      arrived[(step + 1) % 2].expect_tiles(2);
      load_step(key + kStep);
    }
    arrived[step % 2].wait(step / 2);
    if (tile.length - key < kStep) {
      zero_tile_rows(k_tiles + step % 2 * kWarpgroupTile, tile.length - key);
      zero_tile_rows(v_tiles + step % 2 * kWarpgroupTile, tile.length - key);
      warpgroup_operands_written();
      __syncthreads();
    }
    const int step_end = min(key + kStep, tile.length);
#pragma unroll 1
    for (int half = key; half < step_end; half += kHalf) {
      const WarpgroupOperand place = half % (2 * kStep) / 16 * kOperandRows;
      const WarpgroupOperand k_operand = k_operands + place, v_operand = v_operands + place;
      Accumulators scores[kHalfTiles], dp[kHalfTiles];
      multiply_both(scores, q_operand, k_operand, dp, dy_operand, v_operand);
      unsigned ds[kHalfTiles][4];
#pragma unroll
      for (int k = 0; k < kHalfTiles; ++k) {
        unsigned p[4];
        score_tile<kDropout>(p, ds[k], scores[k], dp[k], tile.length - half - 16 * k, statistics,
                             shape, bits, query / 16, half / 16 + k);
      }
      add_product(dq[0], ds, k_operand);
    }
  }
  __syncthreads();  // all have multiplied with q
  if (query >= tile.length) return;
  const float factor = shape.score_scale * shape.dropout.scale, scale[2] = {factor, factor};
  store_rows<kWarpgroupHead>(dq[0], scale, q_tile + warp_row * kWarpgroupHead,
                             dqkv + std::int64_t{tile.first} * shape.qkv_stride + column,
                             shape.qkv_stride, query, tile.length);
#endif
}

// --- dK, dV --------------------------------------------------------------------------------------

template <bool kDropout>
__global__ void __launch_bounds__(kWarpgroup, 3)
    warpgroup_dkv_kernel(const __grid_constant__ AttentionShape shape, int per_sequence,
                         const __grid_constant__ TileSource dy,
                         const __grid_constant__ TileSource qkv, const float* lse,
                         const float* delta, __nv_bfloat16* dqkv) {
#ifdef BERT_HAS_WARPGROUPS
  static_assert(kWarpgroup == 2 * kStep);
  BERT_SHARED(TileBarrier, arrived, 2);       // for each buffer
  BERT_SHARED(float, statistics, 4 * kStep);  // [2 buffers][lse log2(e), delta][kStep]
  __nv_bfloat16* const k_tile = warpgroup_tiles();
  __nv_bfloat16* const v_tile = k_tile + kWarpgroupTile;
  __nv_bfloat16* const q_tiles = v_tile + kWarpgroupTile;
  __nv_bfloat16* const dy_tiles = q_tiles + 2 * kWarpgroupTile;

  const AttentionTile tile = find_tile(shape, kRows, per_sequence);
  if (tile.row >= tile.length) return;
  const int thread = static_cast<int>(threadIdx.x), warp_row = thread / 32 * 16;
  const int column = tile.head * kWarpgroupHead, width = shape.y_stride;
  // Queries and their output gradients of a step, by one thread.
  const auto load_step = [&](int query) {
    const int buffer = query / kStep % 2, row = tile.first + query;
    arrived[buffer].load(q_tiles + buffer * kWarpgroupTile, qkv, row, column);
    arrived[buffer].load(dy_tiles + buffer * kWarpgroupTile, dy, row, column);
  };
  if (thread == 0) {
    begin_barriers(arrived);
    arrived[0].expect_tiles(4);
    arrived[0].load(k_tile, qkv, tile.first + tile.row, width + column);
    arrived[0].load(v_tile, qkv, tile.first + tile.row, 2 * width + column);
    load_step(0);
  }
  // A thread's share of a step's statistics.
  const float* const own_statistics =
      (thread < kStep ? lse : delta) + tile.head * shape.capacity + tile.first + thread % kStep;
  const auto statistic = [&](int query) {
    if (query + thread % kStep >= tile.length) return 0.0f;
    return own_statistics[query] * (thread < kStep ? kLog2E : 1.0f);
  };
  float next = statistic(0);

  const AttentionBits bits(shape, tile);
  const int key = tile.row + warp_row;  // of the warp
  const WarpgroupOperand k_operand = warpgroup_operand(k_tile);
  const WarpgroupOperand v_operand = warpgroup_operand(v_tile);
  const WarpgroupOperand q_operands = warpgroup_operand(q_tiles);
  const WarpgroupOperand dy_operands = warpgroup_operand(dy_tiles);
  Accumulators dk[1][kWarpgroupColumnTiles], dv[1][kWarpgroupColumnTiles];
  zero(dk);
  zero(dv);
  for (int query = 0; query < tile.length; query += kStep) {
    const int step = query / kStep;
    statistics[step % 2 * 2 * kStep + thread] = next;
    __syncthreads();  // all have multiplied with the other buffer; the barriers are there
    if (thread == 0 && query + kStep < tile.length) {
      arrived[(step + 1) % 2].expect_tiles(2);
      load_step(query + kStep);
    }
    next = statistic(query + kStep);  // on its way while this step computes
    arrived[step % 2].wait(step / 2);
    if (tile.length - query < kStep) {
      zero_tile_rows(q_tiles + step % 2 * kWarpgroupTile, tile.length - query);
      zero_tile_rows(dy_tiles + step % 2 * kWarpgroupTile, tile.length - query);
      warpgroup_operands_written();
      __syncthreads();
    }
    const int step_end = min(query + kStep, tile.length);
#pragma unroll 1
    for (int half = query; half < step_end; half += kHalf) {
      const WarpgroupOperand place = half % (2 * kStep) / 16 * kOperandRows;
      const WarpgroupOperand q_operand = q_operands + place, dy_operand = dy_operands + place;
      Accumulators scores[kHalfTiles], dp[kHalfTiles];
      multiply_both(scores, k_operand, q_operand, dp, v_operand, dy_operand);
      unsigned p[kHalfTiles][4], ds[kHalfTiles][4];
#pragma unroll
      for (int q = 0; q < kHalfTiles; ++q) {
        const ColumnStatistics columns(statistics + step % 2 * 2 * kStep + half % kStep + 16 * q,
                                       kStep);
        transposed_score_tile<kDropout>(p[q], ds[q], scores[q], dp[q], columns, shape, bits,
                                        half / 16 + q, key / 16);
      }
      warpgroup_settle(dv[0]);
      warpgroup_settle(dk[0]);
      warpgroup_begin();
#pragma unroll
      for (int q = 0; q < kHalfTiles; ++q) {
        warpgroup_mma(dv[0], p[q], dy_operand + q * kOperandRows);
      }
#pragma unroll
      for (int q = 0; q < kHalfTiles; ++q) {
        warpgroup_mma(dk[0], ds[q], q_operand + q * kOperandRows);
      }
      warpgroup_commit();
      warpgroup_wait();
      warpgroup_settle(dv[0]);
      warpgroup_settle(dk[0]);
    }
  }
  __syncthreads();  // all have multiplied with k and v
  if (key >= tile.length) return;
  const float factor = shape.score_scale * shape.dropout.scale;
  const float k_scale[2] = {factor, factor};
  const float v_scale[2] = {shape.dropout.scale, shape.dropout.scale};
  __nv_bfloat16* const dq_rows = dqkv + std::int64_t{tile.first} * shape.qkv_stride + column;
  store_rows<kWarpgroupHead>(dv[0], v_scale, v_tile + warp_row * kWarpgroupHead,
                             dq_rows + 2 * width, shape.qkv_stride, key, tile.length);
  store_rows<kWarpgroupHead>(dk[0], k_scale, k_tile + warp_row * kWarpgroupHead, dq_rows + width,
                             shape.qkv_stride, key, tile.length);
#endif
}

}  // namespace

bool attention_backward_warpgroup(const AttentionShape& shape, const __nv_bfloat16* dy,
                                  const __nv_bfloat16* y, const __nv_bfloat16* qkv,
                                  const float* lse, float* delta, __nv_bfloat16* dqkv,
                                  cudaStream_t stream) {
  if (!warpgroups_serve(shape)) return false;
  const bool dropout = shape.dropout.key != nullptr;
  const TileSource dy_tiles = tile_source(dy, shape.capacity, shape.y_stride);
  const TileSource qkv_tiles = tile_source(qkv, shape.capacity, shape.qkv_stride);
  const LaunchShape launch_shape{attention_grid(shape, kRows), dim3(kWarpgroup),
                                 warpgroup_shared_bytes(6)};
  const int per_sequence = tiles_per_sequence(shape, kRows);
  launch("attention_warpgroup_dq", dropout ? warpgroup_dq_kernel<true> : warpgroup_dq_kernel<false>,
         launch_shape, stream, shape, per_sequence, dy_tiles, y, qkv_tiles, lse, delta, dqkv);
  launch("attention_warpgroup_dkv",
         dropout ? warpgroup_dkv_kernel<true> : warpgroup_dkv_kernel<false>, launch_shape, stream,
         shape, per_sequence, dy_tiles, qkv_tiles, lse, delta, dqkv);
  return true;
}

}  // namespace bert::BERT_CUDA
