// Flash attention forward in bf16 by warpgroups, on Hopper, for a head size of 64 and sequences of
// any length: what attention_mma_forward.cu does, with products (wgmma) that read their operands
// straight from shared memory, and tiles that one thread asks for (TMA). The softmax is that of
// attention_softmax.cuh.
//
// Work, for one head of a sequence of T tokens: 4 T^2 HS operations in two products; 8 T HS bytes
// (Q, K, V, y), where K and V come ceil(T / 64) times, but for the first time from the second level
// cache. A 16 x 16 tile of P takes some 110 instructions, none of them for products or their
// operands: its dropout bits (14 wide multiplications, 26 logical operations), 8 exponentials, 8
// additions, the rest.
//
// Layout: a block is one warpgroup and has 64 queries, 16 a warp; four blocks a multiprocessor, so
// that one's products run beside the exponentials of others (128 registers a thread). Keys and
// values pass by in steps of 64, in two buffers; shared memory is 40 KB.
#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/attention_warpgroup.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kQueries = kWarpgroupRows, kKeys = kWarpgroupRows, kKeyTiles = 2;  // at once

// P of a step, packed and without what is dropped, from its scores; the rows' sums go on. Where a
// base must be raised, all is done again: once, for scores that are not finite, or so large that
// their base is rounded by more than 16, make sums that no base makes small.
template <bool kDropout>
__device__ __forceinline__ void softmax_step(unsigned (&p)[kKeyTiles][4],
                                             Accumulators (&y)[kWarpgroupColumnTiles],
                                             float (&base)[2], float (&sum)[2],
                                             const Accumulators (&scores)[kKeyTiles],
                                             float log2_scale, const AttentionBits& bits,
                                             unsigned threshold, int query_tile, int key_tile) {
  for (bool raised = false;; raised = true) {
    float step_sum[2] = {0.0f, 0.0f};
#pragma unroll
    for (int k = 0; k < kKeyTiles; ++k) {
      Accumulators of_tile[1], probabilities[1];
#pragma unroll
      for (int e = 0; e < 8; ++e) element(of_tile[0], e) = element(scores[k], e);
      float tile_sum[2];
      exponentials(probabilities, tile_sum, of_tile, base, log2_scale);
      step_sum[0] += tile_sum[0];
      step_sum[1] += tile_sum[1];
      pack(p[k], probabilities[0]);
      if constexpr (kDropout) drop(p[k], bits.bits(query_tile, key_tile + k), threshold);
    }
    const bool small = step_sum[0] <= kLargestSum && step_sum[1] <= kLargestSum;
    if (__all_sync(kFullMask, small) || raised) {
      sum[0] += step_sum[0];
      sum[1] += step_sum[1];
      return;
    }
    raise_base(y, base, sum, scores, log2_scale);
  }
}

template <bool kDropout>
__global__ void __launch_bounds__(kWarpgroup, 4)
    warpgroup_forward_kernel(const __grid_constant__ AttentionShape shape, int per_sequence,
                             const __grid_constant__ TileSource qkv, __nv_bfloat16* y, float* lse) {
#ifdef BERT_HAS_WARPGROUPS
  BERT_SHARED(TileBarrier, arrived, 2);  // for each buffer
  __nv_bfloat16* const q_tile = warpgroup_tiles();
  __nv_bfloat16* const k_tiles = q_tile + kWarpgroupTile;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * kWarpgroupTile;

  const std::int64_t channels = shape.channels();
  zero_tail(shape, y, channels);
  const AttentionTile tile = find_tile(shape, kQueries, per_sequence);
  if (tile.row >= tile.length) return;
  const int thread = static_cast<int>(threadIdx.x);
  const int column = tile.head * kWarpgroupHead, width = shape.y_stride;
  // Keys and values of a step, by one thread.
  const auto load_step = [&](int key) {
    const int buffer = key / kKeys % 2, row = tile.first + key;
    arrived[buffer].load(k_tiles + buffer * kWarpgroupTile, qkv, row, width + column);
    arrived[buffer].load(v_tiles + buffer * kWarpgroupTile, qkv, row, 2 * width + column);
  };
  if (thread == 0) {
    begin_barriers(arrived);
    arrived[0].expect_tiles(3);
    arrived[0].load(q_tile, qkv, tile.first + tile.row, column);
    load_step(0);
  }

  const AttentionBits bits(shape, tile);
  const float log2_scale = shape.score_scale * kLog2E;
  const int query = tile.row + thread / 32 * 16;  // of the warp
  const WarpgroupOperand q_operand = warpgroup_operand(q_tile);
  const WarpgroupOperand k_operands = warpgroup_operand(k_tiles);
  const WarpgroupOperand v_operands = warpgroup_operand(v_tiles);
  Accumulators sums_of_y[1][kWarpgroupColumnTiles];
  zero(sums_of_y);
  float base[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
  for (int key = 0; key < tile.length; key += kKeys) {
    const int step = key / kKeys;
    __syncthreads();  // all have multiplied with the other buffer; the barriers are there
    if (thread == 0 && key + kKeys < tile.length) {
      arrived[(step + 1) % 2].expect_tiles(2);
      load_step(key + kKeys);
    }
    arrived[step % 2].wait(step / 2);
    const bool last = tile.length - key < kKeys;
    if (last || (key == 0 && tile.length - tile.row < kQueries)) {
      if (last) zero_tile_rows(v_tiles + step % 2 * kWarpgroupTile, tile.length - key);
      if (key == 0) zero_tile_rows(q_tile, tile.length - tile.row);
      warpgroup_operands_written();
      __syncthreads();
    }

    const int step_end = min(key + kKeys, tile.length);
#pragma unroll 1
    for (int half = key; half < step_end; half += 16 * kKeyTiles) {
      const WarpgroupOperand place = half % (2 * kKeys) / 16 * kOperandRows;
      Accumulators scores[kKeyTiles];
      warpgroup_begin();
      multiply_heads(scores, q_operand, k_operands + place);
      warpgroup_commit();
      warpgroup_wait();
      warpgroup_settle(scores);
      if (last) {
        const int lane_key = half + thread % 4 * 2;
#pragma unroll
        for (int k = 0; k < kKeyTiles; ++k) {
#pragma unroll
          for (int e = 0; e < 8; ++e) {
            if (lane_key + 16 * k + e % 2 + e / 4 * 8 >= tile.length) {
              element(scores[k], e) = -INFINITY;
            }
          }
        }
      }
      unsigned p[kKeyTiles][4];
      softmax_step<kDropout>(p, sums_of_y[0], base, sum, scores, log2_scale, bits,
                             shape.dropout.threshold, query / 16, half / 16);
      warpgroup_settle(sums_of_y[0]);
      warpgroup_begin();
#pragma unroll
      for (int k = 0; k < kKeyTiles; ++k) {
        warpgroup_mma(sums_of_y[0], p[k], v_operands + place + k * kOperandRows);
      }
      warpgroup_commit();
      warpgroup_wait();
      warpgroup_settle(sums_of_y[0]);
    }
  }
  __syncthreads();  // all have multiplied with q
  if (query >= tile.length) return;
  finish_rows<kWarpgroupHead>(sums_of_y[0], base, sum, shape,
                              q_tile + (query - tile.row) * kWarpgroupHead,
                              y + tile.first * channels + column,
                              lse + tile.head * shape.capacity + tile.first, query, tile.length);
#endif
}

}  // namespace

bool attention_forward_warpgroup(const AttentionShape& shape, const __nv_bfloat16* qkv,
                                 __nv_bfloat16* y, float* lse, cudaStream_t stream) {
  if (!warpgroups_serve(shape)) return false;
  launch("attention_warpgroup_forward",
         shape.dropout.key != nullptr ? warpgroup_forward_kernel<true>
                                      : warpgroup_forward_kernel<false>,
         {attention_grid(shape, kQueries), dim3(kWarpgroup), warpgroup_shared_bytes(5)}, stream,
         shape, tiles_per_sequence(shape, kQueries),
         tile_source(qkv, shape.capacity, shape.qkv_stride), y, lse);
  return true;
}

}  // namespace bert::BERT_CUDA
