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

constexpr int kKeys = 64;  // of a step
constexpr int kRowTiles = 2;
constexpr int kWarpRows =
    16 * kRowTiles;  // queries in the first half of a step, keys in the second

template <int kHeadSize, int kWarps>
struct ResidentPlan {
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kColumnTiles = kHeadSize / 16;
  // In the second half of a step a warp sums 32 keys of dv or of dk, this many columns of them.
  static constexpr int kSumColumns = kHeadSize / (kWarps / 4);
  static_assert(kWarps % 4 == 0 && kSumColumns % 16 == 0);
};

// `rows` of q, dy, k and v, and of P and dS of one step.
template <int kHeadSize>
std::size_t shared_bytes(int rows) {
  return std::size_t{2} * static_cast<std::size_t>(rows) * (2 * kHeadSize + kKeys) *
         sizeof(__nv_bfloat16);
}

// Packed accumulators to rows row.. (16) and columns column.. (16) of a tile [rows, kKeys].
__device__ __forceinline__ void store_packed(__nv_bfloat16* tile, int place, int row, int column,
                                             const unsigned (&packed)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    *reinterpret_cast<unsigned*>(reinterpret_cast<char*>(tile) +
                                 (place ^ (2 * column + i / 2 * 16)) +
                                 (row + i % 2 * 8) * 2 * kKeys) = packed[i];
  }
}

// What a warp has of its queries in the first half of a step.
template <int kHeadSize>
struct QueryOperands {
  unsigned q[kRowTiles][kHeadSize / 16][4];
  unsigned dy[kRowTiles][kHeadSize / 16][4];
  float log2_lse[kRowTiles][2];  // of rows g and g + 8
  float delta[kRowTiles][2];
};

// First half: 16 keys, the first rows of k_rows and v_rows, of which `keys` count. dq += dS K; P
// (without dropped elements) and dS go to rows and columns of their tiles.
template <bool kDropout, int kHeadSize>
__device__ __forceinline__ void score_step(
    Accumulators (&dq)[kRowTiles][kHeadSize / 16], const QueryOperands<kHeadSize>& own,
    const MmaLane<kHeadSize>& lane, const __nv_bfloat16* k_rows, const __nv_bfloat16* v_rows,
    int keys, const AttentionShape& shape, const AttentionBits& bits, int query_tile, int key_tile,
    __nv_bfloat16* p_rows, __nv_bfloat16* ds_rows, int place, int column) {
  const float log2_scale = shape.score_scale * kLog2E;
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
  if (keys < 16) {  // the sequence's last: P = 0 beyond it
    const int lane_key = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (lane_key + e % 2 + e / 4 * 8 < keys) continue;
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) element(scores[r], e) = -INFINITY;
    }
  }
  unsigned ds[kRowTiles][4];
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    if constexpr (kDropout) {
      const Kept kept(bits.bits(query_tile + r, key_tile), shape.dropout.threshold);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int i = e / 2 % 2;
        float &s = element(scores[r], e), &d = element(dp[r], e);
        s = exp2_approx(fmaf(s, log2_scale, -own.log2_lse[r][i]));
        d = s * fmaf(kept(e) ? d : 0.0f, shape.dropout.scale, -own.delta[r][i]);
        if (!kept(e)) s = 0.0f;
      }
    } else {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const int i = e / 2 % 2;
        float &s = element(scores[r], e), &d = element(dp[r], e);
        s = exp2_approx(fmaf(s, log2_scale, -own.log2_lse[r][i]));
        d = s * (d - own.delta[r][i]);
      }
    }
    unsigned p[4];
    pack(p, scores[r]);
    store_packed(p_rows, place, 16 * r, column, p);
    pack(ds[r], dp[r]);
    store_packed(ds_rows, place, 16 * r, column, ds[r]);
  }
#pragma unroll
  for (int c = 0; c < kHeadSize / 16; ++c) {
    unsigned b[2][2];
    lane.load_b_straight(b, k_rows, 0, 16 * c);
#pragma unroll
    for (int r = 0; r < kRowTiles; ++r) multiply(dq[r][c], ds[r], b);
  }
}

template <int kHeadSize, bool kDropout, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, kWarps == 4 ? 2 : 1)
    mma_backward_resident_kernel(AttentionShape shape, int rows, const __nv_bfloat16* dy,
                                 const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse,
                                 __nv_bfloat16* dqkv) {
  using Plan = ResidentPlan<kHeadSize, kWarps>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kThreads = Plan::kThreads;
  BERT_SHARED(float, lse_rows, kWarps* kWarpRows);  // times log2(e)
  BERT_SHARED(float, delta_rows, kWarps* kWarpRows);
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const dy_tile = q_tile + rows * kHeadSize;
  __nv_bfloat16* const k_tile = dy_tile + rows * kHeadSize;
  __nv_bfloat16* const v_tile = k_tile + rows * kHeadSize;
  __nv_bfloat16* const p_tile = v_tile + rows * kHeadSize;
  __nv_bfloat16* const ds_tile = p_tile + rows * kKeys;

  zero_tail(shape, dqkv, 3 * shape.channels());
  const int sequence = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  if (sequence >= *shape.num_sequences) return;
  const AttentionTile tile = sequence_tile(shape, sequence, head);
  const BackwardRows own(shape, tile, kHeadSize, qkv, dy, y);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int tile_rows = (tile.length + kWarpRows - 1) / kWarpRows * kWarpRows;
  const int first_keys = min(kKeys, tile_rows);
  const auto copy = [&](__nv_bfloat16* to, const __nv_bfloat16* from, std::int64_t stride, int row,
                        int end) {
    Tile::template copy_rows<kThreads>(thread, to + row * kHeadSize, end - row, from, stride, row,
                                       tile.length);
  };
  copy(q_tile, own.q, own.qkv_stride, 0, tile_rows);
  copy(k_tile, own.k, own.qkv_stride, 0, first_keys);
  copy(v_tile, own.v, own.qkv_stride, 0, first_keys);
  copy(dy_tile, own.dy, own.y_stride, 0, tile_rows);
  cp_async_commit();
  copy(k_tile, own.k, own.qkv_stride, first_keys, tile_rows);
  copy(v_tile, own.v, own.qkv_stride, first_keys, tile_rows);
  cp_async_commit();

  const MmaLane<kHeadSize> lane;
  const MmaLane<kKeys> key_lane;
  const int row = thread % 32 / 4;
  const int place = 2 * MmaTile<kKeys>::offset(row, 0) + thread % 4 * 4;
  const AttentionBits bits(shape, tile);
  const int query = warp * kWarpRows;
  const bool has_queries = query < tile.length;
  Accumulators dq[kRowTiles][Plan::kColumnTiles];
  zero(dq);
  // Of y, what this lane multiplies with dy once that has come.
  const OwnRows<kHeadSize, kWarpRows> y_rows(own.y, own.y_stride, query, tile.length);
  const int own_row = query + thread % 32;
  static_assert(kWarpRows == 32);
  lse_rows[own_row] = own_row < tile.length ? lse[own.statistics + own_row] * kLog2E : 0.0f;

  cp_async_wait<1>();
  __syncthreads();
  if (has_queries) y_rows.multiply(delta_rows + query, dy_tile, query);
  __syncwarp();
  for (int key = 0; key < tile.length; key += kKeys) {
    if (key > 0) {
      cp_async_wait<0>();
      __syncthreads();  // also: all have read P and dS of the step before
    }
    const int keys = min(kKeys, tile.length - key);
    if (has_queries) {
      QueryOperands<kHeadSize>
          operands;  // read again in each step: not kept through the second half
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int q = query + 16 * r + row + 8 * i;
          operands.log2_lse[r][i] = lse_rows[q];
          operands.delta[r][i] = delta_rows[q];
        }
#pragma unroll
        for (int c = 0; c < Plan::kColumnTiles; ++c) {
          lane.load_a(operands.q[r][c], q_tile, query + 16 * r, 16 * c);
          lane.load_a(operands.dy[r][c], dy_tile, query + 16 * r, 16 * c);
        }
      }
#pragma unroll 1
      for (int k = 0; k < keys; k += 16) {
        score_step<kDropout>(dq, operands, lane, k_tile + (key + k) * kHeadSize,
                             v_tile + (key + k) * kHeadSize, keys - k, shape, bits, query / 16,
                             (key + k) / 16, p_tile + query * kKeys, ds_tile + query * kKeys, place,
                             k);
      }
    }
    __syncthreads();  // P and dS of the step are there

    // Second half: dv = (M * P)^T dy and dk = dS^T q of the step's keys, over all queries.
    const bool of_dv = warp < kWarps / 2;
    const int part = warp % (kWarps / 2);
    const int own_key = part % 2 * kWarpRows, column = part / 2 * Plan::kSumColumns;
    if (own_key < keys) {
      const __nv_bfloat16* const left = of_dv ? p_tile : ds_tile;
      const __nv_bfloat16* const right = of_dv ? dy_tile : q_tile;
      Accumulators sums[kRowTiles][Plan::kSumColumns / 16];
      zero(sums);
#pragma unroll 1
      for (int q = 0; q < tile.length; q += 16) {
        unsigned a[kRowTiles][4];
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) {
          key_lane.load_a_transposed(a[r], left + q * kKeys, 0, own_key + 16 * r);
        }
#pragma unroll
        for (int c = 0; c < Plan::kSumColumns / 16; ++c) {
          unsigned b[2][2];
          lane.load_b_straight(b, right + q * kHeadSize, 0, column + 16 * c);
#pragma unroll
          for (int r = 0; r < kRowTiles; ++r) multiply(sums[r][c], a[r], b);
        }
      }
      // All warps have read these rows of k and v: room to make whole chunks of 16 bytes.
      const float factor = of_dv ? shape.dropout.scale : shape.score_scale;
      const float scale[2] = {factor, factor};
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        const int first = key + own_key + 16 * r;
        store_rows<kHeadSize>(sums[r], scale, (of_dv ? v_tile : k_tile) + first * kHeadSize,
                              dqkv + ((of_dv ? own.v : own.k) - qkv), own.qkv_stride, first,
                              tile.length, column);
      }
    }
  }
  __syncthreads();  // all have read q
  if (!has_queries) return;
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
    const float scale[2] = {shape.score_scale, shape.score_scale};
    store_rows<kHeadSize>(dq[r], scale, q_tile + (query + 16 * r) * kHeadSize, dqkv + (own.q - qkv),
                          own.qkv_stride, query + 16 * r, tile.length);
  }
}

}  // namespace

bool attention_backward_mma_resident(const AttentionShape& shape, const __nv_bfloat16* dy,
                                     const __nv_bfloat16* y, const __nv_bfloat16* qkv,
                                     const float* lse, __nv_bfloat16* dqkv, cudaStream_t stream) {
  if (shape.max_seqlen > kResidentBackward || shape.head_size > 64) return false;
  const int rows = (shape.max_seqlen + kWarpRows - 1) / kWarpRows * kWarpRows;
  const dim3 grid(static_cast<unsigned>(shape.sequences), static_cast<unsigned>(shape.heads));
  bool fits = false;
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    if constexpr (kHeadSize <= 64) {
      const std::size_t bytes = shared_bytes<kHeadSize>(rows);
      const auto with_warps = [&]<int kWarps>() {
        constexpr std::size_t kStatic = std::size_t{2} * kWarps * kWarpRows * sizeof(float);
        if (rows > kWarps * kWarpRows || bytes + kStatic > shared_memory_limit()) return;
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
