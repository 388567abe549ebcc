// What the attention kernels share: how blocks find their sequence, dropout, and the launchers that
// attention.cu chooses from. The equations are those of docs/derivations/attention.md.
//
// Blocks. A block takes `rows` consecutive rows (queries or keys) of one sequence and one head:
// grid (tiles, heads). Which rows tile number i is, is found in one of two ways, whichever has
// fewer tiles for the capacity:
//   by sequence: i / ceil(max_seqlen / rows) is the sequence; right for sequences of equal length;
//   packed: sequence s owns the tiles from cu_seqlens[s] / rows + s on (rounded down), which leaves
//   it at least ceil(length / rows); T / rows + B tiles serve any lengths.
// Tiles past a sequence's end, or past the last sequence, return at once.
#pragma once

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/dropout.h"

namespace bert::BERT_CUDA {

struct AttentionDropout {
  const DropoutKey* key = nullptr;  // null: no dropout
  std::uint32_t site = 0, threshold = 0;
  float scale = 1.0f;  // of what is kept
};

struct AttentionShape {
  const std::int32_t* cu_seqlens = nullptr;       // [B + 1]
  const std::uint32_t* sequence_index = nullptr;  // [B]
  DeviceCount num_tokens = nullptr, num_sequences = nullptr;
  std::int64_t capacity = 0;  // T
  int sequences = 0;          // B
  int max_seqlen = 0;
  int heads = 0, head_size = 0;
  int y_stride = 0, qkv_stride = 0;  // elements of a row: C, 3 C
  float score_scale = 0.0f;          // 1 / sqrt(HS)
  AttentionDropout dropout{};

  __device__ std::int64_t channels() const { return y_stride; }
};

// One block's rows.
struct AttentionTile {
  std::int32_t first;  // token row of the sequence's first token
  int length;          // of the sequence
  int row;             // the tile begins here, within the sequence; >= length: nothing to do
  int sequence;
  int head;
};

// 0: packed.
inline int tiles_per_sequence(const AttentionShape& shape, int rows) {
  const std::int64_t each = ceil_div(shape.max_seqlen, rows);
  return each * shape.sequences <= shape.capacity / rows + shape.sequences ? static_cast<int>(each)
                                                                           : 0;
}

inline dim3 attention_grid(const AttentionShape& shape, int rows) {
  const std::int64_t each = tiles_per_sequence(shape, rows);
  const std::int64_t tiles =
      each > 0 ? each * shape.sequences : shape.capacity / rows + shape.sequences;
  return dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(shape.heads));
}

// All threads of the block call, and get the same. `per_sequence` is that of tiles_per_sequence.
__device__ __forceinline__ AttentionTile find_tile(const AttentionShape& shape, int rows,
                                                   int per_sequence) {
  const int tile = static_cast<int>(blockIdx.x), sequences = *shape.num_sequences;
  AttentionTile result{0, 0, 0, 0, static_cast<int>(blockIdx.y)};
  if (per_sequence > 0) {
    result.sequence = tile / per_sequence;
    result.row = tile % per_sequence * rows;
    if (result.sequence >= sequences) return result;
    result.first = shape.cu_seqlens[result.sequence];
  } else {
    int begun = 0;  // sequences whose first tile is this one or before
    for (int s = static_cast<int>(threadIdx.x); s < sequences; s += static_cast<int>(blockDim.x)) {
      begun += shape.cu_seqlens[s] / rows + s <= tile;
    }
    begun = block_sum(begun);
    if (begun == 0) return result;  // no sequence at all
    result.sequence = begun - 1;
    result.first = shape.cu_seqlens[result.sequence];
    result.row = (tile - (result.first / rows + result.sequence)) * rows;
  }
  result.length = shape.cu_seqlens[result.sequence + 1] - result.first;
  return result;
}

// The whole of a sequence that there is.
__device__ __forceinline__ AttentionTile sequence_tile(const AttentionShape& shape, int sequence,
                                                       int head) {
  const std::int32_t first = shape.cu_seqlens[sequence];
  return {first, shape.cu_seqlens[sequence + 1] - first, 0, sequence, head};
}

// The block's share of zeroing the rows of x [T, width] from the token count on.
template <class T>
__device__ __forceinline__ void zero_tail(const AttentionShape& shape, T* x, std::int64_t width) {
  const std::int64_t blocks = std::int64_t{gridDim.x} * gridDim.y * gridDim.z;
  const std::int64_t block =
      (std::int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  for (std::int64_t row = *shape.num_tokens + block; row < shape.capacity; row += blocks) {
    for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
      x[row * width + i] = from_float<T>(0.0f);
    }
  }
}

// The dropout bits of one sequence and head. bits() is one Philox call: the eight elements that
// this lane holds of a 16 x 16 tile of P, queries along the rows, in the accumulators of two
// mma.m16n8k16: element e is (row g + 8 (e / 2 % 2), column 2t + e % 2 + 8 (e / 4)).
class AttentionBits {
 public:
  // Without dropout, bits() is not to be called.
  __device__ AttentionBits(const AttentionShape& shape, const AttentionTile& tile)
      : key_(shape.dropout.key != nullptr ? *shape.dropout.key : DropoutKey{}),
        site_(shape.dropout.site),
        sequence_(shape.sequence_index[tile.sequence]),
        tiles_(static_cast<std::uint32_t>(tile.length + 15) / 16),
        first_(static_cast<std::uint32_t>(tile.head) * tiles_ * tiles_ * 32 + threadIdx.x % 32) {}

  // The tile of queries 16 query_tile.. and keys 16 key_tile...
  __device__ PhiloxCounter bits(int query_tile, int key_tile) const {
    const std::uint32_t tile =
        static_cast<std::uint32_t>(query_tile) * tiles_ + static_cast<std::uint32_t>(key_tile);
    return dropout_bits<WideProduct>(key_, site_, sequence_, first_ + tile * 32);
  }

 private:
  DropoutKey key_;
  std::uint32_t site_, sequence_, tiles_, first_;
};

// --- Launchers -----------------------------------------------------------------------------------
// Any head size, f32 or bf16, plain multiplications (attention_general.cu). `delta` is scratch for
// [NH, T] row-sums.
template <class T>
void attention_forward_general(const AttentionShape& shape, const T* qkv, T* y, float* lse,
                               cudaStream_t stream);
template <class T>
void attention_backward_general(const AttentionShape& shape, const T* dy, const T* y, const T* qkv,
                                const float* lse, float* delta, T* dqkv, cudaStream_t stream);

// bf16 on tensor cores (attention_mma_forward.cu, attention_mma_backward.cu), for these head sizes.
inline constexpr bool has_mma_attention(std::int64_t head_size) {
  return head_size == 32 || head_size == 64 || head_size == 128;
}
// The longest max_seqlen for which a block takes a whole sequence, its keys and values (in
// backward: queries and output gradients too) resident in shared memory. 0: never.
inline constexpr int kResidentForward = 512;
inline constexpr int kResidentBackward = 256;
// False, and nothing done, when the limit or the device's shared memory does not allow it.
[[nodiscard]] bool attention_forward_mma_resident(const AttentionShape& shape,
                                                  const __nv_bfloat16* qkv, __nv_bfloat16* y,
                                                  float* lse, cudaStream_t stream);
void attention_forward_mma(const AttentionShape& shape, const __nv_bfloat16* qkv, __nv_bfloat16* y,
                           float* lse, cudaStream_t stream);
[[nodiscard]] bool attention_backward_mma_resident(const AttentionShape& shape,
                                                   const __nv_bfloat16* dy, const __nv_bfloat16* y,
                                                   const __nv_bfloat16* qkv, const float* lse,
                                                   __nv_bfloat16* dqkv, cudaStream_t stream);
void attention_backward_mma(const AttentionShape& shape, const __nv_bfloat16* dy,
                            const __nv_bfloat16* y, const __nv_bfloat16* qkv, const float* lse,
                            float* delta, __nv_bfloat16* dqkv, cudaStream_t stream);

// The same by warpgroups, on Hopper, for a head size of 64 (attention_warpgroup_*.cu). False, and
// nothing done, elsewhere or beyond the limit.
#ifdef BERT_SIMT  // has no warpgroups
template <class... Arguments>
[[nodiscard]] bool attention_forward_warpgroup(const Arguments&...) {
  return false;
}
template <class... Arguments>
[[nodiscard]] bool attention_backward_warpgroup_resident(const Arguments&...) {
  return false;
}
template <class... Arguments>
[[nodiscard]] bool attention_backward_warpgroup(const Arguments&...) {
  return false;
}
#else
[[nodiscard]] bool attention_forward_warpgroup(const AttentionShape& shape,
                                               const __nv_bfloat16* qkv, __nv_bfloat16* y,
                                               float* lse, cudaStream_t stream);
[[nodiscard]] bool attention_backward_warpgroup_resident(const AttentionShape& shape,
                                                         const __nv_bfloat16* dy,
                                                         const __nv_bfloat16* y,
                                                         const __nv_bfloat16* qkv, const float* lse,
                                                         __nv_bfloat16* dqkv, cudaStream_t stream);
[[nodiscard]] bool attention_backward_warpgroup(const AttentionShape& shape,
                                                const __nv_bfloat16* dy, const __nv_bfloat16* y,
                                                const __nv_bfloat16* qkv, const float* lse,
                                                float* delta, __nv_bfloat16* dqkv,
                                                cudaStream_t stream);
#endif

}  // namespace bert::BERT_CUDA
