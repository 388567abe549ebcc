// The gradients of the embedding tables from de [T, C], the gradient of each token's sum of rows.
// Without float atomics, every sum in an order fixed by the tokens alone.
//
// dword: tokens are sorted by word (token_sort.cuh) and cut into segments of 32, however long the
// run of one word is: so frequent words are no burden for one warp. A warp sums the runs of its
// segment and adds those that lie inside to dword, for no other warp has that word; the runs that
// are cut go to `edges` and a second launch adds up the pieces of each.
// dposition: a block per position walks over the sequences, which lie at cu_seqlens[b] + position.
// dtype: the same block keeps its tokens of each type apart; add_column_sums adds up the positions.
#pragma once

#include "kernels/cuda/layer_norm_row.cuh"
#include "kernels/cuda/token_sort.cuh"

namespace bert::BERT_CUDA {

inline constexpr int kSegment = 32;          // tokens, one per lane
inline constexpr int kPanel = 32 * kGroup;   // channels of a warp
inline constexpr int kSegmentsPerBlock = 4;  // a warp each
inline constexpr int kTableWarps = 8;        // of a block that adds up one row
inline constexpr int kTypesAtOnce = 2;       // BERT has two

inline unsigned panels(std::int64_t channels) {
  return static_cast<unsigned>(ceil_div(channels, kPanel));
}

// table[row] += values, for the group at channel c.
template <bool kVector>
__device__ __forceinline__ void add_to_row(float* table, std::int64_t row, int c, int channels,
                                           const float (&values)[kGroup]) {
  float total[kGroup];
  load_group<kVector>(table + row * channels, c, channels, total);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) total[i] += values[i];
  store_group<kVector>(table + row * channels, c, channels, total);
}

// edges [segments, 2, C]: [0] the segment's first run if it began before, [1] its last run if it
// began here and goes on.
template <class T, bool kVector>
__global__ void __launch_bounds__(32 * kSegmentsPerBlock)
    sum_words_kernel(const TokenKey* sorted, DeviceCount count, const T* de, int channels,
                     float* dword, float* edges) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int c = static_cast<int>(blockIdx.y) * kPanel + lane * kGroup;
  const std::int64_t segment = std::int64_t{blockIdx.x} * kSegmentsPerBlock + threadIdx.x / 32,
                     begin = segment * kSegment;
  const std::int64_t tokens = *count;
  if (begin >= tokens) return;  // a whole warp
  const std::int64_t end = begin + kSegment < tokens ? begin + kSegment : tokens;
  const int length = static_cast<int>(end - begin);
  const TokenKey key = lane < length ? sorted[begin + lane] : kNoToken;
  const int id_before = begin > 0 ? token_id(sorted[begin - 1]) : -1;
  const int id_after = end < tokens ? token_id(sorted[end]) : -1;
  float* const edge = edges + segment * 2 * channels;

  int word = __shfl_sync(kFullMask, token_id(key), 0);
  bool from_before = word == id_before;
  float sum[kGroup] = {};
  constexpr int kAhead = 8;  // rows that are loaded together
  for (int first = 0; first < length; first += kAhead) {
    HeldGroup<T, kVector> rows[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const TokenKey of_row = __shfl_sync(kFullMask, key, first + j);
      if (of_row != kNoToken) rows[j].load(de + token_row(of_row) * channels, c, channels);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const TokenKey of_row = __shfl_sync(kFullMask, key, first + j);
      if (of_row == kNoToken) continue;
      if (token_id(of_row) != word) {
        if (from_before) {
          store_group<kVector>(edge, c, channels, sum);
        } else {
          add_to_row<kVector>(dword, word, c, channels, sum);
        }
        word = token_id(of_row);
        from_before = false;
#pragma unroll
        for (int i = 0; i < kGroup; ++i) sum[i] = 0.0f;
      }
      float values[kGroup];
      rows[j].get(values);
#pragma unroll
      for (int i = 0; i < kGroup; ++i) sum[i] += values[i];
    }
  }
  if (from_before) {
    store_group<kVector>(edge, c, channels, sum);
  } else if (word == id_after) {
    store_group<kVector>(edge + channels, c, channels, sum);
  } else {
    add_to_row<kVector>(dword, word, c, channels, sum);
  }
}

// Rows of a panel, one per warp, added up in order: total [kPanel] by thread, its channel
// blockIdx.y * kPanel + threadIdx.x. All threads of the block call.
__device__ __forceinline__ float panel_sum(const float (&values)[kGroup],
                                           float (&shared)[kTableWarps * kPanel]) {
  static_assert(32 * kTableWarps == kPanel);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  store_floats(shared + warp * kPanel + lane * kGroup, values);
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int w = 0; w < kTableWarps; ++w) total += shared[w * kPanel + static_cast<int>(threadIdx.x)];
  __syncthreads();  // `shared` may be written again
  return total;
}

// A block per segment and panel: the run that begins in this segment and goes on after it.
template <bool kVector>
__global__ void __launch_bounds__(32 * kTableWarps)
    sum_edges_kernel(const TokenKey* sorted, DeviceCount count, const float* edges, int channels,
                     float* dword) {
  BERT_SHARED(float, shared, kTableWarps* kPanel);
  const std::int64_t segment = blockIdx.x, begin = segment * kSegment, end = begin + kSegment;
  const std::int64_t tokens = *count;
  // These are the same for all threads of the block.
  if (end >= tokens) return;
  const int word = token_id(sorted[end - 1]);
  if (token_id(sorted[end]) != word) return;
  if (begin > 0 && token_id(sorted[begin]) == word && token_id(sorted[begin - 1]) == word) return;

  // The first token after the run, by binary search.
  std::int64_t low = end + 1, high = tokens;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (token_id(sorted[middle]) == word) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const int pieces = static_cast<int>((low - 1) / kSegment - segment) + 1;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int c = static_cast<int>(blockIdx.y) * kPanel + static_cast<int>(threadIdx.x) % 32 * kGroup;
  float sum[kGroup] = {};
#pragma unroll 4
  for (int p = warp; p < pieces; p += kTableWarps) {
    float piece[kGroup];
    load_group<kVector>(edges + ((segment + p) * 2 + (p == 0 ? 1 : 0)) * channels, c, channels,
                        piece);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) sum[i] += piece[i];
  }
  const float total = panel_sum(sum, shared);
  const int channel = static_cast<int>(blockIdx.y) * kPanel + static_cast<int>(threadIdx.x);
  if (channel < channels) dword[std::int64_t{word} * channels + channel] += total;
}

// A block per position and panel: dposition gains the tokens of the types first_type and
// first_type + 1, which go to type_partials [positions, 2, C] as well.
template <class T, bool kVector>
__global__ void __launch_bounds__(32 * kTableWarps)
    sum_positions_kernel(const std::int32_t* cu_seqlens, DeviceCount num_sequences,
                         const std::int32_t* type_ids, int first_type, const T* de, int channels,
                         float* dposition, float* type_partials) {
  BERT_SHARED(float, shared, kTableWarps* kPanel);
  const int position = static_cast<int>(blockIdx.x), sequences = *num_sequences;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int c = static_cast<int>(blockIdx.y) * kPanel + static_cast<int>(threadIdx.x) % 32 * kGroup;
  float sums[kTypesAtOnce][kGroup] = {};
  constexpr int kAhead = 4;  // rows that are loaded together
  for (int first = warp; first < sequences; first += kAhead * kTableWarps) {
    HeldGroup<T, kVector> rows[kAhead];
    int type[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      const int b = first + j * kTableWarps;
      type[j] = -1;
      if (b >= sequences) continue;
      const std::int64_t row = std::int64_t{cu_seqlens[b]} + position;
      if (row >= cu_seqlens[b + 1]) continue;
      type[j] = type_ids[row] - first_type;
      rows[j].load(de + row * channels, c, channels);
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (type[j] < 0) continue;
      float values[kGroup];
      rows[j].get(values);
#pragma unroll
      for (int k = 0; k < kTypesAtOnce; ++k) {
#pragma unroll
        for (int i = 0; i < kGroup; ++i) sums[k][i] += type[j] == k ? values[i] : 0.0f;
      }
    }
  }
  const int channel = static_cast<int>(blockIdx.y) * kPanel + static_cast<int>(threadIdx.x);
  float total = 0.0f;
#pragma unroll
  for (int k = 0; k < kTypesAtOnce; ++k) {
    const float of_type = panel_sum(sums[k], shared);
    total += of_type;
    if (channel < channels) {
      type_partials[(std::int64_t{position} * kTypesAtOnce + k) * channels + channel] = of_type;
    }
  }
  if (channel < channels) dposition[std::int64_t{position} * channels + channel] += total;
}

}  // namespace bert::BERT_CUDA
