// The pieces of the tensor-core attention kernels: tiles in shared memory, fragments, dropout.
//
// Tiles. A tile is rows of kHeadSize bf16, one per token, filled by cp.async, zeros past the
// sequence's end. Rows are not padded; their 16-byte chunks are permuted instead (chunk c of row r
// lies at place c ^ (r mod 8), or c ^ (r / 2 mod 4) where a row has only four chunks). The eight
// rows that a phase of ldmatrix reads at the same logical chunk then lie at eight different places
// modulo 128 bytes: no bank conflicts, nor in cp.async's writes of whole rows.
//
// Within a sequence, elements of a head are counted in 32 bits.
//
// Fragments (lane = 4 g + t, see intrinsics.cuh). The accumulators of two neighbouring
// m16n8 products, [16 rows, 16 columns], are after packing to bf16 just the A operand of the next
// product that sums over those columns. So P never leaves the registers: in forward P V, in the
// kernel of dq dS K, and, because the kernel of dk and dv computes the scores transposed
// (keys along the rows), P^T dy and dS^T Q there.
#pragma once

#include "kernels/cuda/attention.cuh"

namespace bert::BERT_CUDA {

inline constexpr int kMmaThreads = 128;
inline constexpr int kMmaWarps = kMmaThreads / 32;

// Where a tile's elements lie.
template <int kHeadSize>
struct MmaTile {
  static_assert(kHeadSize == 32 || kHeadSize == 64 || kHeadSize == 128);
  static constexpr int kChunks = kHeadSize / 8;

  __device__ static int permutation(int row) { return kChunks == 4 ? row / 2 % 4 : row % 8; }
  __device__ static int offset(int row, int chunk) {
    return row * kHeadSize + (chunk ^ permutation(row)) * 8;
  }

  // Rows row.. of a head to the tile's first `rows` rows, by kThreads threads of which this is
  // number `thread`. Not yet waited for.
  template <int kThreads>
  __device__ __forceinline__ static void copy_rows(int thread, __nv_bfloat16* tile, int rows,
                                                   const __nv_bfloat16* from, int stride, int row,
                                                   int length) {
    constexpr int kRowsAtOnce = kThreads / kChunks;
    constexpr bool kPermutedAlike = kRowsAtOnce % 8 == 0;  // all rows of a thread
    const int first = thread / kChunks, chunk = thread % kChunks;
    const int place = offset(first, chunk);
    from += (row + first) * stride + chunk * 8;
    const int valid = length - row;  // rows
#pragma unroll 4
    for (int r = 0; first + r < rows; r += kRowsAtOnce) {
      cp_async_16(tile + (kPermutedAlike ? place + r * kHeadSize : offset(first + r, chunk)), from,
                  first + r < valid);
      from += kRowsAtOnce * stride;
    }
  }
};

// A lane's places in tiles, worked out once, in bytes: a fragment elsewhere in the tile differs by
// multiples of 16 rows, which are added, and by even chunks, which are exclusively or-ed.
template <int kHeadSize>
class MmaLane {
  using Tile = MmaTile<kHeadSize>;
  static constexpr int kBytes = sizeof(__nv_bfloat16);

 public:
  __device__ MmaLane() {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    straight_ = kBytes * Tile::offset(lane % 16, lane / 16);
    paired_ = kBytes * Tile::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  }

  // A operand: rows row.. (16), columns column.. (16).
  __device__ void load_a(unsigned (&a)[4], const __nv_bfloat16* tile, int row, int column) const {
    ldmatrix_x4(a, place(tile, straight_, row, column));
  }
  // A operand of a product of the tile's transpose: sums over rows row.. (16), gives rows column..
  // (16).
  __device__ void load_a_transposed(unsigned (&a)[4], const __nv_bfloat16* tile, int row,
                                    int column) const {
    ldmatrix_x4_trans(a, place(tile, paired_, row, column));
  }
  // B operands of a product with the transpose of the tile: sums over columns column.. (16), gives
  // columns row.. (16), in two halves of 8.
  __device__ void load_b(unsigned (&b)[2][2], const __nv_bfloat16* tile, int row,
                         int column) const {
    unsigned r[4];
    ldmatrix_x4(r, place(tile, paired_, row, column));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
  }
  // B operands of a product with the tile: sums over rows row.. (16), gives columns column.. (16).
  __device__ void load_b_straight(unsigned (&b)[2][2], const __nv_bfloat16* tile, int row,
                                  int column) const {
    unsigned r[4];
    ldmatrix_x4_trans(r, place(tile, straight_, row, column));
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
  }

 private:
  __device__ static const char* place(const __nv_bfloat16* tile, int own, int row, int column) {
    return reinterpret_cast<const char*>(tile) + (own ^ (kBytes * column)) +
           kBytes * kHeadSize * row;
  }

  int straight_, paired_;
};

// The accumulators of a [16, 16] product: [half of the columns][as mma has them].
using Accumulators = float[2][4];

// sums += a [16, 16] b [16, 16].
__device__ __forceinline__ void multiply(Accumulators& sums, const unsigned (&a)[4],
                                         const unsigned (&b)[2][2]) {
  mma_m16n8k16(sums[0], a, b[0], sums[0]);
  mma_m16n8k16(sums[1], a, b[1], sums[1]);
}

// Element e of a lane's eight: see AttentionBits.
__device__ __forceinline__ float& element(Accumulators& tile, int e) { return tile[e / 4][e % 4]; }
__device__ __forceinline__ float element(const Accumulators& tile, int e) {
  return tile[e / 4][e % 4];
}

__device__ __forceinline__ void pack(unsigned (&a)[4], const Accumulators& tile) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = pack_bf16(tile[i / 2][i % 2 * 2], tile[i / 2][i % 2 * 2 + 1]);
}

// What is kept of a tile of P: its element e. Compares 16 bits with the threshold at the upper end
// of a word.
class Kept {
 public:
  __device__ Kept(const PhiloxCounter& bits, unsigned threshold)
      : bits_(bits), high_(threshold << 16) {}
  __device__ bool operator()(int e) const {
    const unsigned word = bits_[static_cast<std::size_t>(e / 2)];
    return (e % 2 == 0 ? word << 16 : word) >= high_;
  }

 private:
  PhiloxCounter bits_;
  unsigned high_;
};

// Zeroes the elements of a packed tile that are dropped.
__device__ __forceinline__ void drop(unsigned (&a)[4], const PhiloxCounter& bits,
                                     unsigned threshold) {
  // a[i] has the elements 2 i and 2 i + 1, as a word of bits has.
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] &= kept_halves(bits[static_cast<std::size_t>(i)], threshold);
}

// scale * sums [16, 16 kColumnTiles] of a warp, by way of the same place in 16 rows of shared
// memory that only this warp uses, to rows row.. and columns column.. of `to`; 16 bytes a lane at a
// time.
template <int kHeadSize, int kColumnTiles>
__device__ __forceinline__ void store_rows(Accumulators (&sums)[kColumnTiles],
                                           const float (&scale)[2], __nv_bfloat16* staging,
                                           __nv_bfloat16* to, int stride, int row, int length,
                                           int column = 0) {
  using Tile = MmaTile<kHeadSize>;
  constexpr int kChunks = 2 * kColumnTiles;
  const int lane = thread_anew() % 32;
  const int first = column / 8;  // a multiple of kChunks
  const int written = Tile::offset(lane / 4, first) + lane % 4 * 2;
  __syncwarp();  // the warp has read what was there
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float* const pair = sums[c / 2][c % 2] + 2 * i;
      *reinterpret_cast<unsigned*>(staging + (written ^ (8 * c)) + 8 * i * kHeadSize) =
          pack_bf16(scale[i] * pair[0], scale[i] * pair[1]);
    }
  }
  __syncwarp();  // the warp has written
  constexpr int kRowsAtOnce = 32 / kChunks;
  const int own_row = lane / kChunks, chunk = first + lane % kChunks;
  const int read = Tile::offset(own_row, chunk);
  const int place = (row + own_row) * stride + chunk * 8;
#pragma unroll
  for (int r = 0; r < 16; r += kRowsAtOnce) {
    if (row + own_row + r < length) {
      detail::store_16_bytes<Reuse::likely>(
          reinterpret_cast<uint4*>(to + (place + r * stride)),
          *reinterpret_cast<const uint4*>(staging + (read ^ (8 * Tile::permutation(r))) +
                                          r * kHeadSize));
    }
  }
}

template <int kRowTiles, int kColumnTiles>
__device__ __forceinline__ void zero(Accumulators (&sums)[kRowTiles][kColumnTiles]) {
#pragma unroll
  for (int r = 0; r < kRowTiles; ++r) {
#pragma unroll
    for (int c = 0; c < kColumnTiles; ++c) {
#pragma unroll
      for (int e = 0; e < 8; ++e) element(sums[r][c], e) = 0.0f;
    }
  }
}

// Calls f.template operator()<kHeadSize, kDropout>() with the constants of the shape.
template <class F>
void with_mma_shape(const AttentionShape& shape, F&& f) {
  const bool dropout = shape.dropout.key != nullptr;
  const auto with_head_size = [&]<int kHeadSize>() {
    dropout ? f.template operator()<kHeadSize, true>() : f.template operator()<kHeadSize, false>();
  };
  switch (shape.head_size) {
    case 32:
      return with_head_size.template operator()<32>();
    case 64:
      return with_head_size.template operator()<64>();
    case 128:
      return with_head_size.template operator()<128>();
    default:
      throw_runtime_error("no tensor-core attention for a head size of {}", shape.head_size);
  }
}

}  // namespace bert::BERT_CUDA
