// Tokens sorted by an id (and tokens of one id by their place), on the device.
//
// Every (id, token) is one 64-bit key and no two are equal, so whatever order the comparisons run
// in, one result is possible. Blocks sort chunks of 1024 keys in shared memory (bitonic, Batcher
// 1968); then each key finds its rank by a binary search in every chunk. Work: 11 (T / 1024) steps
// for each of T keys; for T = 32k 360 each, and small beside the rows until T is beyond a quarter
// of a million.
#pragma once

#include <algorithm>
#include <bit>

#include "kernels/cuda/launch.cuh"
#include "kernels/ops.h"

namespace bert::BERT_CUDA {

using TokenKey = unsigned long long;  // id << 32 | token

inline constexpr TokenKey kNoToken = ~0ull;  // sorts last

__device__ __forceinline__ int token_id(TokenKey key) { return static_cast<int>(key >> 32); }
__device__ __forceinline__ std::int64_t token_row(TokenKey key) {
  return static_cast<std::int64_t>(key & 0xffffffffu);
}

inline constexpr std::int64_t kMostChunk = 1024;
inline constexpr int kSortThreads = 256;

// How many keys a block sorts: a power of two.
inline std::int64_t sort_chunk(std::int64_t tokens) {
  return std::clamp(static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(tokens))),
                    std::int64_t{64}, kMostChunk);
}
// Keys that the sort needs room for, in chunks and sorted.
inline std::int64_t sort_keys(std::int64_t tokens) {
  const std::int64_t chunk = sort_chunk(tokens);
  return ceil_div(tokens, chunk) * chunk;
}

// keys [chunks, chunk]: each block's tokens in order, kNoToken where there are none.
static __global__ void __launch_bounds__(kSortThreads)
    sort_chunks_kernel(const std::int32_t* ids, DeviceCount count, int chunk, TokenKey* keys) {
  TokenKey* const sorted = dynamic_shared<TokenKey>();
  const std::int64_t first = std::int64_t{blockIdx.x} * chunk;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int i = thread; i < chunk; i += threads) {
    const std::int64_t token = first + i;
    sorted[i] = token < *count
                    ? static_cast<TokenKey>(ids[token]) << 32 | static_cast<TokenKey>(token)
                    : kNoToken;
  }
  for (int run = 2; run <= chunk; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int pair = thread; pair < chunk / 2; pair += threads) {
        const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
        const TokenKey a = sorted[low], b = sorted[high];
        if ((a > b) == ((low & run) == 0)) {
          sorted[low] = b;
          sorted[high] = a;
        }
      }
    }
  }
  __syncthreads();
  for (int i = thread; i < chunk; i += threads) keys[first + i] = sorted[i];
}

// sorted [count] = the keys of all chunks in order.
static __global__ void __launch_bounds__(256)
    merge_chunks_kernel(const TokenKey* keys, int chunks, int chunk, TokenKey* sorted) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const TokenKey key = i < std::int64_t{chunks} * chunk ? keys[i] : kNoToken;
  if (key == kNoToken) return;
  constexpr int kAtOnce = 4;  // searches that wait for memory together
  std::int64_t rank = 0;
  for (int first = 0; first < chunks; first += kAtOnce) {
    int place[kAtOnce] = {};
    for (int step = chunk / 2; step > 0; step /= 2) {
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        if (first + j < chunks &&
            keys[std::int64_t{first + j} * chunk + place[j] + step - 1] < key) {
          place[j] += step;
        }
      }
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (first + j >= chunks) continue;
      rank += place[j] + (keys[std::int64_t{first + j} * chunk + place[j]] < key ? 1 : 0);
    }
  }
  sorted[rank] = key;
}

// Sorts tokens 0 to *count - 1 of ids [tokens]. `keys` and `sorted` have sort_keys(tokens)
// elements. Returns which of the two holds the result.
inline const TokenKey* sort_tokens(const std::int32_t* ids, DeviceCount count, std::int64_t tokens,
                                   TokenKey* keys, TokenKey* sorted, cudaStream_t stream) {
  const std::int64_t chunk = sort_chunk(tokens), all = sort_keys(tokens), chunks = all / chunk;
  const auto threads = static_cast<unsigned>(std::min<std::int64_t>(chunk / 2, kSortThreads));
  launch("sort_chunks_kernel", sort_chunks_kernel,
         {dim3(static_cast<unsigned>(chunks)), dim3(threads),
          static_cast<std::size_t>(chunk) * sizeof(TokenKey)},
         stream, ids, count, static_cast<int>(chunk), keys);
  if (chunks <= 1) return keys;
  launch("merge_chunks_kernel", merge_chunks_kernel,
         {dim3(static_cast<unsigned>((all + 255) / 256)), dim3(256)}, stream, keys,
         static_cast<int>(chunks), static_cast<int>(chunk), sorted);
  return sorted;
}

}  // namespace bert::BERT_CUDA
