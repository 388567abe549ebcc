// Flash attention backward in bf16 on tensor cores where one block holds a whole sequence: one
// head, max_seqlen <= kResidentBackward, head sizes 32 and 64. docs/derivations/attention.md
// derives it; with P had again from the saved lse, M the dropout factors and delta_i = dy_i . y_i:
//   dV = (M * P)^T dy,  dP = M * (dy V^T),  dS = P * (dP - delta),  dQ = dS K / sqrt(HS),
//   dK = dS^T Q / sqrt(HS).
//
// Work, for one head of a sequence of T tokens: 10 T^2 HS operations in five products, dropout bits
// and exponentials once; 16 T HS bytes (Q, K, V, y, dy; dQ, dK, dV), each moved once. At T = 128
// and HS = 64 memory is the limit; a 16 x 16 tile takes some 200 instructions, 40 of them mma.
//
// Layout: Q, K, V and dy of the sequence in shared memory, and P and dS [T, 64] of one step, in
// bf16: 96 KB at T = 128 and HS = 64, so two blocks a multiprocessor; 192 KB at T = 256. A step is
// 64 keys and has two halves with a barrier after each:
//   1. A warp has 32 queries: S, dP, P, dS 16 keys at a time, dQ += dS K in registers all along. P
//   and
//      dS go to shared memory.
//   2. A warp has 32 of the step's keys and dV or dK of them (with 8 warps half of the columns),
//   and
//      sums over all queries. Where K and V of the step lay, dK and dV are staged on their way out.
// So no sum crosses warps, each has a fixed order, and nothing is added to from two sides. Warps
// read fragments for two mma each in both halves (see attention_mma_forward.cu). dQ, the fragments
// of Q and dy and the sums of one half fill the 255 registers that two blocks of 4 warps leave a
// thread.
//
// Longer sequences: at T = 512, Q, K, V and dy are 256 KB. Keeping only some of them, with the f32
// sums that then cross steps, fills shared memory or registers so that fragments are read for one
// mma only, and shared memory is the limit again; see attention_mma_backward.cu for what serves
// there.
#include "kernels/cuda/attention_mma_backward.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kRowTiles = 2;  // of 16 queries, a warp
constexpr int kWarpQueries = 16 * kRowTiles;
constexpr int kWarpKeys = 32;

template <int kHeadSize, int kWarps>
struct ResidentPlan {
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kQueries = kWarps * kWarpQueries;
  // Columns of dv or dk that a warp sums in the second half of a step.
  static constexpr int kSumColumns = kHeadSize / (kWarps / 4);
  static_assert(kWarps % 4 == 0 && kSumColumns % 16 == 0);
};

// `rows` of q, dy, k and v, and of P and dS of one step.
template <int kHeadSize>
std::size_t shared_bytes(int rows) {
  return std::size_t{2} * static_cast<std::size_t>(rows) * (2 * kHeadSize + kExchangeKeys) *
         sizeof(__nv_bfloat16);
}

template <int kHeadSize, bool kDropout, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, kWarps == 4 ? 2 : 1)
    mma_backward_resident_kernel(AttentionShape shape, int rows, const __nv_bfloat16* dy,
                                 const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse,
                                 __nv_bfloat16* dqkv) {
  using Plan = ResidentPlan<kHeadSize, kWarps>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kThreads = Plan::kThreads;
  BERT_SHARED(float, log2_lse, Plan::kQueries);
  BERT_SHARED(float, delta, Plan::kQueries);
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const dy_tile = q_tile + rows * kHeadSize;
  __nv_bfloat16* const k_tile = dy_tile + rows * kHeadSize;
  __nv_bfloat16* const v_tile = k_tile + rows * kHeadSize;
  __nv_bfloat16* const p_tile = v_tile + rows * kHeadSize;
  __nv_bfloat16* const ds_tile = p_tile + rows * kExchangeKeys;

  zero_tail(shape, dqkv, 3 * shape.channels());
  const int sequence = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  if (sequence >= *shape.num_sequences) return;
  const AttentionTile tile = sequence_tile(shape, sequence, head);
  const BackwardRows own(shape, tile, kHeadSize, qkv, dy, y);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const auto copy = [&](__nv_bfloat16* to, const __nv_bfloat16* from, int stride, int row,
                        int end) {
    Tile::template copy_rows<kThreads>(thread, to + row * kHeadSize, end - row, from, stride, row,
                                       tile.length);
  };
  const int tile_rows = (tile.length + kWarpQueries - 1) / kWarpQueries * kWarpQueries;
  const int first_keys = min(kExchangeKeys, tile_rows);
  copy(q_tile, own.q, shape.qkv_stride, 0, tile_rows);
  copy(k_tile, own.k, shape.qkv_stride, 0, first_keys);
  copy(v_tile, own.v, shape.qkv_stride, 0, first_keys);
  copy(dy_tile, own.dy, shape.y_stride, 0, tile_rows);
  cp_async_commit();
  copy(k_tile, own.k, shape.qkv_stride, first_keys, tile_rows);
  copy(v_tile, own.v, shape.qkv_stride, first_keys, tile_rows);
  cp_async_commit();

  const int query = warp * kWarpQueries;
  const bool has_queries = query < tile.length;
  const OutputRows<kHeadSize, kWarpQueries> y_rows(own.y, shape.y_stride, query, tile.length);
  static_assert(kWarpQueries == 32);
  log2_lse[thread] = thread < tile.length ? lse[own.statistics + thread] * kLog2E : 0.0f;
  cp_async_wait<1>();
  __syncthreads();
  if (has_queries) y_rows.multiply(delta + query, dy_tile, query, 1.0f / shape.dropout.scale);
  __syncwarp();

  const MmaLane<kHeadSize> lane;
  const MmaLane<kExchangeKeys> exchange_lane;
  const ExchangeLane exchange;
  const AttentionBits bits(shape, tile);
  Accumulators dq[kRowTiles][kHeadSize / 16];
  zero(dq);
  for (int key = 0; key < tile.length; key += kExchangeKeys) {
    if (key > 0) {
      cp_async_wait<0>();
      __syncthreads();  // also: all have read P and dS of the step before
    }
    const int keys = min(kExchangeKeys, tile.length - key);
    if (has_queries) {
      // Read again in each step: there are no registers to keep them through the second half.
      QueryOperands<kHeadSize, kRowTiles> operands;
      operands.load(lane, q_tile, dy_tile, query, log2_lse + query, delta + query);
#pragma unroll 1
      for (int k = 0; k < keys; k += 16) {
        unsigned p[kRowTiles][4], ds[kRowTiles][4];
        query_step<kDropout>(p, ds, dq, operands, lane, k_tile + (key + k) * kHeadSize,
                             v_tile + (key + k) * kHeadSize, keys - k, shape, bits, query / 16,
                             (key + k) / 16);
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          exchange.store(p_tile + query * kExchangeKeys, 16 * r, k, p[r]);
          exchange.store(ds_tile + query * kExchangeKeys, 16 * r, k, ds[r]);
        }
      }
    }
    __syncthreads();  // P and dS of the step are there

    const bool of_dv = warp < kWarps / 2;
    const int part = warp % (kWarps / 2);
    const int own_key = part % 2 * kWarpKeys, column = part / 2 * Plan::kSumColumns;
    if (own_key < keys) {
      Accumulators sums[2][Plan::kSumColumns / 16];
      zero(sums);
      add_transposed(sums, exchange_lane, lane, of_dv ? p_tile : ds_tile, of_dv ? dy_tile : q_tile,
                     tile.length, own_key, column);
      // All warps have read these rows of k and v: room to make whole chunks of 16 bytes.
      const float factor = shape.dropout.scale * (of_dv ? 1.0f : shape.score_scale);
      const float scale[2] = {factor, factor};
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int first = key + own_key + 16 * r;
        store_rows<kHeadSize>(sums[r], scale, (of_dv ? v_tile : k_tile) + first * kHeadSize,
                              dqkv + ((of_dv ? own.v : own.k) - qkv), shape.qkv_stride, first,
                              tile.length, column);
      }
    }
  }
  __syncthreads();  // all have read q
  if (!has_queries) return;
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const float factor = shape.score_scale * shape.dropout.scale, scale[2] = {factor, factor};
    store_rows<kHeadSize>(dq[r], scale, q_tile + (query + 16 * r) * kHeadSize, dqkv + (own.q - qkv),
                          shape.qkv_stride, query + 16 * r, tile.length);
  }
}

}  // namespace

bool attention_backward_mma_resident(const AttentionShape& shape, const __nv_bfloat16* dy,
                                     const __nv_bfloat16* y, const __nv_bfloat16* qkv,
                                     const float* lse, __nv_bfloat16* dqkv, cudaStream_t stream) {
  if (shape.max_seqlen > kResidentBackward || shape.head_size > 64) return false;
  const int rows = (shape.max_seqlen + kWarpQueries - 1) / kWarpQueries * kWarpQueries;
  const dim3 grid(static_cast<unsigned>(shape.sequences), static_cast<unsigned>(shape.heads));
  bool fits = false;
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    if constexpr (kHeadSize <= 64) {
      const std::size_t bytes = shared_bytes<kHeadSize>(rows);
      const auto with_warps = [&]<int kWarps>() {
        constexpr int kQueries = ResidentPlan<kHeadSize, kWarps>::kQueries;
        constexpr std::size_t kStatic = std::size_t{2} * kQueries * sizeof(float);
        if (rows > kQueries || bytes + kStatic > shared_memory_limit()) return;
        fits = true;
        launch("attention_mma_backward_resident",
               mma_backward_resident_kernel<kHeadSize, kDropout, kWarps>,
               {grid, dim3(32 * kWarps), bytes}, stream, shape, rows, dy, y, qkv, lse, dqkv);
      };
      rows <= 128 ? with_warps.template operator()<4>() : with_warps.template operator()<8>();
    }
  });
  return fits;
}

}  // namespace bert::BERT_CUDA
