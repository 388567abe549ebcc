// What both forms of the tensor-core attention backward share.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace bert::BERT_CUDA {

// Where the rows of one sequence and head lie.
struct BackwardRows {
  const __nv_bfloat16 *q, *k, *v;  // qkv_stride apart
  const __nv_bfloat16 *dy, *y;     // y_stride apart
  std::int64_t qkv_stride, y_stride;
  std::int64_t statistics;  // of the first token in lse and delta

  __device__ BackwardRows(const AttentionShape& shape, const AttentionTile& tile, int head_size,
                          const __nv_bfloat16* qkv, const __nv_bfloat16* all_dy,
                          const __nv_bfloat16* all_y) {
    const std::int64_t channels = shape.channels(), column = std::int64_t{tile.head} * head_size;
    qkv_stride = 3 * channels;
    y_stride = channels;
    q = qkv + tile.first * qkv_stride + column;
    k = q + channels;
    v = k + channels;
    dy = all_dy + tile.first * y_stride + column;
    y = all_y + tile.first * y_stride + column;
    statistics = tile.head * shape.capacity + tile.first;
  }
};

// Rows row.. of y (as many as a warp owns), held by the warp in 16-byte chunks until dy is in
// shared memory: delta = dy . y of each row; 0 past the sequence's end.
template <int kHeadSize, int kWarpRows>
class OwnRows {
  using Tile = MmaTile<kHeadSize>;
  static constexpr int kRowsAtOnce = 32 / Tile::kChunks;

 public:
  __device__ OwnRows(const __nv_bfloat16* y, std::int64_t stride, int row, int length) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kWarpRows / kRowsAtOnce; ++i) {
      const int r = row + i * kRowsAtOnce + lane / Tile::kChunks;
      chunks_[i] = make_uint4(0, 0, 0, 0);
      if (r < length) {
        chunks_[i] = *reinterpret_cast<const uint4*>(y + r * stride + lane % Tile::kChunks * 8);
      }
    }
  }

  // dy's rows begin at row `row` of the tile. All lanes of the warp call; result[0..kWarpRows).
  __device__ void multiply(float* result, const __nv_bfloat16* dy_tile, int row) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
    for (int i = 0; i < kWarpRows / kRowsAtOnce; ++i) {
      const int r = i * kRowsAtOnce + lane / Tile::kChunks;
      const uint4 dy =
          *reinterpret_cast<const uint4*>(dy_tile + Tile::offset(row + r, lane % Tile::kChunks));
      float sum = 0.0f;
      const auto add = [&sum](unsigned a, unsigned b) {
        const float2 x = unpack_bf16(a), z = unpack_bf16(b);
        sum = fmaf(x.y, z.y, fmaf(x.x, z.x, sum));
      };
      add(dy.x, chunks_[i].x), add(dy.y, chunks_[i].y);
      add(dy.z, chunks_[i].z), add(dy.w, chunks_[i].w);
#pragma unroll
      for (int offset = Tile::kChunks / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(kFullMask, sum, offset);
      }
      if (lane % Tile::kChunks == 0) result[r] = sum;
    }
  }

 private:
  uint4 chunks_[kWarpRows / kRowsAtOnce];
};

}  // namespace bert::BERT_CUDA
