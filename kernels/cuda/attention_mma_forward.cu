// Flash attention forward in bf16 on tensor cores (Dao 2023, "FlashAttention-2"), for packed
// sequences; head sizes 32, 64, 128. Two kernels that differ in how keys and values come to shared
// memory, and share everything else:
//   resident, max_seqlen <= kResidentForward: a block is one head of one sequence and has all its
//     keys and values there, copied once; after the first 64, 192 and all of them have come, warps
//     go on alone;
//   streamed: a block is 128 queries (64 at HS = 128); keys and values pass by in steps of 64, the
//     next by cp.async while this one is multiplied, with a barrier in between.
//
// Work, for one head of a sequence of T tokens: 4 T^2 HS operations in two products; 8 T HS bytes
// (Q, K, V, y), each moved once; where they are streamed, K and V come ceil(T / 128) times, mostly
// from the second level cache. At HS = 64 that is T / 2 operations a byte: memory is the limit up
// to T = 256 or so, and then instructions: a 16 x 16 tile of P takes 16 mma, 12 wide
// multiplications and 14 logical operations for its dropout bits, 21 to apply them, 8 exponentials,
// 8 additions: some 107 to 115 in all, which is a little more than the cycles that the tensor cores
// need for the 16 mma.
//
// Layout: a warp has 32 queries (16 at HS = 128), so that a fragment of K or V is read from shared
// memory once for two mma: with 16 queries the 128 bytes that shared memory gives in a clock would
// be the limit. Its fragments of Q and y, 32 and 64 registers, stay with it. Resident, T <= 128: 4
// warps, 48 KB (HS = 64, T = 128: Q 16, K and V 32), 16 keys at a time, which keeps to 168
// registers: three blocks a multiprocessor, so that one loads while others compute. Above: 8 warps
// in one or two passes over the queries, 160 KB at T = 512, one block a multiprocessor; 32 keys at
// a time for more independent instructions in each warp. Streamed: 4 warps, 32 keys at a time, two
// blocks.
//
// attention_softmax.cuh has the softmax.
#include "kernels/cuda/attention_softmax.cuh"

namespace bert::BERT_CUDA {
namespace {

template <int kHeadSize>
struct ForwardPlan {
  static constexpr int kRowTiles = kHeadSize == 128 ? 1 : 2;  // of 16 queries, a warp
  static constexpr int kWarpQueries = 16 * kRowTiles;
  static constexpr int kColumnTiles = kHeadSize / 16;
};

// What a warp has of its queries.
template <int kHeadSize>
struct ForwardState {
  using Plan = ForwardPlan<kHeadSize>;
  unsigned q[Plan::kRowTiles][Plan::kColumnTiles][4];
  Accumulators y[Plan::kRowTiles][Plan::kColumnTiles];
  float base[Plan::kRowTiles][2];  // of rows g and g + 8: what exponents are relative to
  float sum[Plan::kRowTiles][2];   // of this lane's columns only

  __device__ void begin(const MmaLane<kHeadSize>& lane, const __nv_bfloat16* q_rows) {
    zero(y);
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        base[r][i] = -INFINITY;
        sum[r][i] = 0.0f;
      }
#pragma unroll
      for (int c = 0; c < Plan::kColumnTiles; ++c) lane.load_a(q[r][c], q_rows, 16 * r, 16 * c);
    }
  }
};

// 16 kKeyTiles keys: the first rows of k_rows and v_rows, of which `keys` count.
template <int kKeyTiles, bool kDropout, int kHeadSize>
__device__ __forceinline__ void forward_step(ForwardState<kHeadSize>& state,
                                             const MmaLane<kHeadSize>& lane,
                                             const __nv_bfloat16* k_rows,
                                             const __nv_bfloat16* v_rows, int keys,
                                             float log2_scale, const AttentionBits& bits,
                                             unsigned threshold, int query_tile, int key_tile) {
  using Plan = ForwardPlan<kHeadSize>;
  Accumulators scores[Plan::kRowTiles][kKeyTiles] = {};
#pragma unroll
  for (int c = 0; c < Plan::kColumnTiles; ++c) {
#pragma unroll
    for (int k = 0; k < kKeyTiles; ++k) {
      unsigned b[2][2];
      lane.load_b(b, k_rows, 16 * k, 16 * c);
#pragma unroll
      for (int r = 0; r < Plan::kRowTiles; ++r) multiply(scores[r][k], state.q[r][c], b);
    }
  }
  if (keys < 16 * kKeyTiles) {  // the sequence's last
    const int column = static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int k = 0; k < kKeyTiles; ++k) {
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        if (16 * k + column + e % 2 + e / 4 * 8 < keys) continue;
#pragma unroll
        for (int r = 0; r < Plan::kRowTiles; ++r) element(scores[r][k], e) = -INFINITY;
      }
    }
  }
  Accumulators probabilities[Plan::kRowTiles][kKeyTiles];
  float sums[Plan::kRowTiles][2];
  bool small = true;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    exponentials(probabilities[r], sums[r], scores[r], state.base[r], log2_scale);
    small = small && sums[r][0] <= kLargestSum && sums[r][1] <= kLargestSum;
  }
  if (!__all_sync(kFullMask, small)) {  // in the first step, and then seldom
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) {
      raise_base(state.y[r], state.base[r], state.sum[r], scores[r], log2_scale);
      exponentials(probabilities[r], sums[r], scores[r], state.base[r], log2_scale);
    }
  }
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    state.sum[r][0] += sums[r][0];
    state.sum[r][1] += sums[r][1];
  }
#pragma unroll
  for (int k = 0; k < kKeyTiles; ++k) {
    unsigned p[Plan::kRowTiles][4];
#pragma unroll
    for (int r = 0; r < Plan::kRowTiles; ++r) {
      pack(p[r], probabilities[r][k]);
      if constexpr (kDropout) {
        drop(p[r], bits.bits(query_tile + r, key_tile + k), threshold);
      }
    }
#pragma unroll
    for (int c = 0; c < Plan::kColumnTiles; ++c) {
      unsigned b[2][2];
      lane.load_b_straight(b, v_rows, 16 * k, 16 * c);
#pragma unroll
      for (int r = 0; r < Plan::kRowTiles; ++r) multiply(state.y[r][c], p[r], b);
    }
  }
}

// What a warp's queries come to: rows query.. of y and of lse, both of one head of one sequence.
// `q_tile` has had the queries of all warps; this one's rows are room to arrange y in.
template <int kHeadSize>
__device__ __forceinline__ void finish(ForwardState<kHeadSize>& state, const AttentionShape& shape,
                                       __nv_bfloat16* q_tile, __nv_bfloat16* y, float* lse,
                                       int query, int length) {
  using Plan = ForwardPlan<kHeadSize>;
  __nv_bfloat16* const staging = q_tile + thread_anew() / 32 * Plan::kWarpQueries * kHeadSize;
#pragma unroll
  for (int r = 0; r < Plan::kRowTiles; ++r) {
    finish_rows<kHeadSize>(state.y[r], state.base[r], state.sum[r], shape,
                           staging + 16 * r * kHeadSize, y, lse, query + 16 * r, length);
  }
}

// --- Sequences whose keys and values fit in shared memory ----------------------------------------

template <int kHeadSize, int kWarps>
std::size_t resident_shared_bytes(int rows) {
  return std::size_t{2} * static_cast<std::size_t>(rows) * kHeadSize * sizeof(__nv_bfloat16) +
         std::size_t{kWarps} * ForwardPlan<kHeadSize>::kWarpQueries * kHeadSize *
             sizeof(__nv_bfloat16);
}

// Keys and values come in three groups, so that work begins with the first 64: the group of `key`
// ends here.
__device__ __forceinline__ int group_end(int key, int length) {
  return min(length, key < 64 ? 64 : key < 192 ? 192 : length);
}

// Shared memory holds `rows` keys and as many values.
template <int kHeadSize, bool kDropout, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, kWarps == 8        ? 1
                                               : kHeadSize == 128 ? 2
                                                                  : 3)
    mma_forward_resident_kernel(AttentionShape shape, int rows, const __nv_bfloat16* qkv,
                                __nv_bfloat16* y, float* lse) {
  using Plan = ForwardPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kThreads = 32 * kWarps, kKeyTiles = kWarps == 4 ? 1 : 2;
  constexpr bool kOnePass = kWarps == 4 && kHeadSize < 128;
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const k_tile = q_tile + kWarps * Plan::kWarpQueries * kHeadSize;
  __nv_bfloat16* const v_tile = k_tile + rows * kHeadSize;

  const std::int64_t channels = shape.channels();
  zero_tail(shape, y, channels);
  const int sequence = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  if (sequence >= *shape.num_sequences) return;
  const AttentionTile tile = sequence_tile(shape, sequence, head);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const __nv_bfloat16* const q = qkv + 3 * channels * tile.first + std::int64_t{head} * kHeadSize;
  __nv_bfloat16* const q_rows = q_tile + warp * Plan::kWarpQueries * kHeadSize;
  const auto copy_queries = [&](int query) {
    Tile::template copy_rows<32>(thread % 32, q_rows, Plan::kWarpQueries, q, shape.qkv_stride,
                                 query, tile.length);
  };
  copy_queries(warp * Plan::kWarpQueries);
  for (int group = 0, key = 0; group < 3; ++group) {
    const int end = (group_end(key, tile.length) + 31) / 32 * 32;  // <= rows
    Tile::template copy_rows<kThreads>(thread, k_tile + key * kHeadSize, end - key, q + channels,
                                       shape.qkv_stride, key, tile.length);
    Tile::template copy_rows<kThreads>(thread, v_tile + key * kHeadSize, end - key,
                                       q + 2 * channels, shape.qkv_stride, key, tile.length);
    cp_async_commit();
    key = end;
  }

  const MmaLane<kHeadSize> lane;
  const AttentionBits bits(shape, tile);
  const float log2_scale = shape.score_scale * kLog2E;
  ForwardState<kHeadSize> state;
  constexpr int kQueries = kWarps * Plan::kWarpQueries;
  for (int first = 0; kOnePass ? first == 0 : first < tile.length; first += kQueries) {
    const int query = first + warp * Plan::kWarpQueries;
    const bool has_queries = query < tile.length;
    if (first > 0) {
      __syncwarp();  // the warp has read what store_rows had staged
      copy_queries(query);
      cp_async_commit();
      cp_async_wait<0>();
      __syncwarp();
    }
    for (int key = 0; key < tile.length;) {
      if (first == 0) {  // afterwards all is there
        key == 0 ? cp_async_wait<2>() : key < 192 ? cp_async_wait<1>() : cp_async_wait<0>();
        __syncthreads();
      }
      const int end = group_end(key, tile.length);
      if (has_queries && key == 0) state.begin(lane, q_rows);
      if (has_queries) {
#pragma unroll 1
        for (; key < end; key += 16 * kKeyTiles) {
          forward_step<kKeyTiles, kDropout>(state, lane, k_tile + key * kHeadSize,
                                            v_tile + key * kHeadSize, tile.length - key, log2_scale,
                                            bits, shape.dropout.threshold, query / 16, key / 16);
        }
      }
      key = end;
    }
    if (has_queries) {
      finish<kHeadSize>(state, shape, q_tile,
                        y + tile.first * channels + std::int64_t{head} * kHeadSize,
                        lse + head * shape.capacity + tile.first, query, tile.length);
    }
  }
}

// --- Sequences of any length ---------------------------------------------------------------------

template <int kHeadSize>
struct StreamPlan : ForwardPlan<kHeadSize> {
  static constexpr int kQueries = kMmaWarps * ForwardPlan<kHeadSize>::kWarpQueries;
  static constexpr int kKeys = 64;  // at a time
  static constexpr int kStepElements = kKeys * kHeadSize;
  static constexpr std::size_t kSharedBytes =
      std::size_t{kQueries + 4 * kKeys} * kHeadSize * sizeof(__nv_bfloat16);
};

template <int kHeadSize, bool kDropout>
__global__ void __launch_bounds__(kMmaThreads, 2)
    mma_forward_kernel(AttentionShape shape, int per_sequence, const __nv_bfloat16* qkv,
                       __nv_bfloat16* y, float* lse) {
  using Plan = StreamPlan<kHeadSize>;
  using Tile = MmaTile<kHeadSize>;
  constexpr int kKeyTiles = 2;
  __nv_bfloat16* const q_tile = dynamic_shared<__nv_bfloat16>();
  __nv_bfloat16* const k_tiles = q_tile + Plan::kQueries * kHeadSize;
  __nv_bfloat16* const v_tiles = k_tiles + 2 * Plan::kStepElements;

  const std::int64_t channels = shape.channels();
  zero_tail(shape, y, channels);
  const AttentionTile tile = find_tile(shape, Plan::kQueries, per_sequence);
  if (tile.row >= tile.length) return;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const __nv_bfloat16* const q =
      qkv + 3 * channels * tile.first + std::int64_t{tile.head} * kHeadSize;
  const auto copy_step = [&](int key) {
    const int buffer = key / Plan::kKeys % 2 * Plan::kStepElements;
    Tile::template copy_rows<kMmaThreads>(thread, k_tiles + buffer, Plan::kKeys, q + channels,
                                          shape.qkv_stride, key, tile.length);
    Tile::template copy_rows<kMmaThreads>(thread, v_tiles + buffer, Plan::kKeys, q + 2 * channels,
                                          shape.qkv_stride, key, tile.length);
  };
  Tile::template copy_rows<kMmaThreads>(thread, q_tile, Plan::kQueries, q, shape.qkv_stride,
                                        tile.row, tile.length);
  copy_step(0);
  if (Plan::kKeys < tile.length) copy_step(Plan::kKeys);
  cp_async_commit();

  const MmaLane<kHeadSize> lane;
  const AttentionBits bits(shape, tile);
  const float log2_scale = shape.score_scale * kLog2E;
  const int query = tile.row + warp * Plan::kWarpQueries;
  const bool has_queries = query < tile.length;
  __nv_bfloat16* const q_rows = q_tile + warp * Plan::kWarpQueries * kHeadSize;
  ForwardState<kHeadSize> state;
  for (int key = 0; key < tile.length; key += Plan::kKeys) {
    cp_async_wait<0>();
    __syncthreads();  // also: all have read the other buffer
    if (key > 0 && key + Plan::kKeys < tile.length) copy_step(key + Plan::kKeys);
    cp_async_commit();
    if (!has_queries) continue;
    if (key == 0) state.begin(lane, q_rows);
    const int buffer = key / Plan::kKeys % 2 * Plan::kStepElements;
    const int keys = min(Plan::kKeys, tile.length - key);
#pragma unroll 1
    for (int k = 0; k < keys; k += 16 * kKeyTiles) {
      forward_step<kKeyTiles, kDropout>(state, lane, k_tiles + buffer + k * kHeadSize,
                                        v_tiles + buffer + k * kHeadSize, keys - k, log2_scale,
                                        bits, shape.dropout.threshold, query / 16, (key + k) / 16);
    }
  }
  if (has_queries) {
    finish<kHeadSize>(state, shape, q_tile,
                      y + tile.first * channels + std::int64_t{tile.head} * kHeadSize,
                      lse + tile.head * shape.capacity + tile.first, query, tile.length);
  }
}

}  // namespace

bool attention_forward_mma_resident(const AttentionShape& shape, const __nv_bfloat16* qkv,
                                    __nv_bfloat16* y, float* lse, cudaStream_t stream) {
  if (shape.max_seqlen > kResidentForward) return false;
  const int rows = (shape.max_seqlen + 31) / 32 * 32;
  const dim3 grid(static_cast<unsigned>(shape.sequences), static_cast<unsigned>(shape.heads));
  bool fits = false;
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    const auto with_warps = [&]<int kWarps>() {
      const std::size_t bytes = resident_shared_bytes<kHeadSize, kWarps>(rows);
      if (bytes > shared_memory_limit()) return;
      fits = true;
      launch("attention_mma_forward_resident",
             mma_forward_resident_kernel<kHeadSize, kDropout, kWarps>,
             {grid, dim3(32 * kWarps), bytes}, stream, shape, rows, qkv, y, lse);
    };
    rows <= 128 ? with_warps.template operator()<4>() : with_warps.template operator()<8>();
  });
  return fits;
}

void attention_forward_mma(const AttentionShape& shape, const __nv_bfloat16* qkv, __nv_bfloat16* y,
                           float* lse, cudaStream_t stream) {
  with_mma_shape(shape, [&]<int kHeadSize, bool kDropout>() {
    using Plan = StreamPlan<kHeadSize>;
    launch("attention_mma_forward", mma_forward_kernel<kHeadSize, kDropout>,
           {attention_grid(shape, Plan::kQueries), dim3(kMmaThreads), Plan::kSharedBytes}, stream,
           shape, tiles_per_sequence(shape, Plan::kQueries), qkv, y, lse);
  });
}

}  // namespace bert::BERT_CUDA
