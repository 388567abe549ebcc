// FP8 copies of bf16 matrices. Memory is the limit:
//   absolute_maxima   reads 2 bytes an element. Blocks of 256 threads walk over the rows that
//                     count, 16 bytes a thread; one maximum a block.
//   to_float8         reads 2 bytes an element, writes 1 for each copy. A block takes a tile of 64
//                     rows by 128 columns, a thread 4 rows by 8 columns. For the transposed copy,
//                     it packs 4 bytes down each of its columns into a word of shared memory; then
//                     each thread writes 16 bytes of a column.
// Every block of the second kernel finds the maximum of the first one's (up to 2 KB, from the
// cache): no zeroing, no atomics, no third launch. Rows that do not count are written as zeros.
// cuda_fp8.h rounds by an instruction from sm_89 on, and in software before it and in the harness.
#include <algorithm>

#include <cuda_fp8.h>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/float8.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace bert::BERT_CUDA {
namespace {

constexpr int kThreads = 256;
constexpr int kMostMaxima = 512;  // half of what an H200 holds of such blocks
constexpr int kTileRows = 64, kTileColumns = 128;
constexpr int kRowsPerThread = 4, kColumnsPerThread = 8;
constexpr int kRowGroups = kTileRows / kRowsPerThread;
constexpr int kColumnGroups = kTileColumns / kColumnsPerThread;
static_assert(kRowGroups * kColumnGroups == kThreads);
constexpr int kColumnStride =
    kRowGroups + 1;  // of shared words: reads and writes spread over banks

// Both formats: largest number 1.75 * 2^kLargestExponent.
template <DType kFormat>
inline constexpr int kLargestExponent = kFormat == DType::e4m3 ? 8 : 15;

// `bits`: of a bf16 that is not negative, so they grow with it.
struct PowerOfTwo {
  float up, down;  // to the format's range and back
};
template <DType kFormat>
__device__ __forceinline__ PowerOfTwo scale_of(unsigned bits) {
  if (bits == 0u) return {1.0f, 1.0f};
  if (bits >= 0x7f80u) return {1.0f, __uint_as_float(0x7fffffffu)};
  const int exponent = static_cast<int>(bits >> 7) - 127;
  const int beyond = (bits & 0x7fu) > 0x60u ? 1 : 0;  // more than 1.75 times its power of two
  const int up = min(kLargestExponent<kFormat> - exponent - beyond, 126);
  return {__uint_as_float(static_cast<unsigned>(127 + up) << 23),
          __uint_as_float(static_cast<unsigned>(127 - up) << 23)};
}

// The largest of all threads' values, for all threads.
__device__ __forceinline__ unsigned block_maximum(unsigned value) {
  BERT_SHARED(unsigned, partial, kThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  value = __reduce_max_sync(kFullMask, value);
  if (lane == 0) partial[warp] = value;
  __syncthreads();
  value = partial[lane % (kThreads / 32)];
  return __reduce_max_sync(kFullMask, value);
}

__device__ __forceinline__ std::int64_t rows_that_count(DeviceCount count, std::int64_t rows) {
  return count == nullptr ? rows : min(static_cast<std::int64_t>(*count), rows);
}

// maxima[block] = the largest |x| of its share, as the bits of a bf16. NaN is the largest of all.
__global__ void __launch_bounds__(kThreads)
    absolute_maxima(const __nv_bfloat16* x, DeviceCount count, std::int64_t rows,
                    std::int64_t columns, unsigned* maxima) {
  constexpr int kElements = kVec<__nv_bfloat16>;
  const std::int64_t vectors = rows_that_count(count, rows) * columns / kElements;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  const auto* const from = reinterpret_cast<const uint4*>(x);
  unsigned largest = 0u;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < vectors;
       i += step) {
    const uint4 raw = from[i];
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (const unsigned word : words) {
      largest = max(largest, max(word & 0x7fffu, word >> 16 & 0x7fffu));
    }
  }
  largest = block_maximum(largest);
  if (threadIdx.x == 0) maxima[blockIdx.x] = largest;
}

// Four numbers, the first in the lowest byte.
template <DType kFormat>
__device__ __forceinline__ unsigned pack_float8(float a, float b, float c, float d) {
  constexpr __nv_fp8_interpretation_t kKind = kFormat == DType::e4m3 ? __NV_E4M3 : __NV_E5M2;
  const unsigned low = __nv_cvt_float2_to_fp8x2(make_float2(a, b), __NV_SATFINITE, kKind);
  const unsigned high = __nv_cvt_float2_to_fp8x2(make_float2(c, d), __NV_SATFINITE, kKind);
  return low | high << 16;
}

template <DType kFormat, bool kPlain, bool kTransposed>
__global__ void __launch_bounds__(kThreads)
    to_float8_kernel(const __nv_bfloat16* x, DeviceCount count, std::int64_t rows,
                     std::int64_t columns, const unsigned* maxima, int count_of_maxima,
                     float* scale_out, std::uint8_t* plain, std::uint8_t* transposed) {
  BERT_SHARED(unsigned, tile, kTransposed ? kTileColumns* kColumnStride : 1);
  const int thread = static_cast<int>(threadIdx.x);
  unsigned largest = 0u;
  for (int i = thread; i < count_of_maxima; i += kThreads) largest = max(largest, maxima[i]);
  const PowerOfTwo scale = scale_of<kFormat>(block_maximum(largest));
  if (blockIdx.x == 0 && thread == 0) *scale_out = scale.down;

  const std::int64_t tiles_across = ceil_div(columns, kTileColumns);
  const std::int64_t first_row = blockIdx.x / tiles_across * kTileRows;
  const std::int64_t first_column = blockIdx.x % tiles_across * kTileColumns;
  const std::int64_t valid = rows_that_count(count, rows);
  const int row_group = thread / kColumnGroups, column_group = thread % kColumnGroups;
  const std::int64_t column = first_column + column_group * kColumnsPerThread;
  unsigned words[kRowsPerThread][2];
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
    const std::int64_t row = first_row + row_group * kRowsPerThread + r;
    float values[kColumnsPerThread] = {};
    if (row < valid && column < columns) load_floats(x + row * columns + column, values);
#pragma unroll
    for (float& value : values) value *= scale.up;
    words[r][0] = pack_float8<kFormat>(values[0], values[1], values[2], values[3]);
    words[r][1] = pack_float8<kFormat>(values[4], values[5], values[6], values[7]);
    if (kPlain && row < rows && column < columns) {
      *reinterpret_cast<uint2*>(plain + row * columns + column) =
          make_uint2(words[r][0], words[r][1]);
    }
  }
  if constexpr (kTransposed) {
#pragma unroll
    for (int c = 0; c < kColumnsPerThread; ++c) {
      unsigned word = 0u;
#pragma unroll
      for (int r = 0; r < kRowsPerThread; ++r) {
        word |= (words[r][c / 4] >> (8 * (c % 4)) & 0xffu) << (8 * r);
      }
      tile[(column_group * kColumnsPerThread + c) * kColumnStride + row_group] = word;
    }
    __syncthreads();
    constexpr int kPieces = kTileRows / 16;  // of 16 bytes, down a column
    for (int piece = thread; piece < kTileColumns * kPieces; piece += kThreads) {
      const int within = piece / kPieces, down = piece % kPieces;
      const std::int64_t to_column = first_column + within, to_row = first_row + down * 16;
      if (to_column >= columns || to_row >= rows) continue;
      const unsigned* const from = tile + within * kColumnStride + down * 4;
      *reinterpret_cast<uint4*>(transposed + to_column * rows + to_row) =
          make_uint4(from[0], from[1], from[2], from[3]);
    }
  }
}

// --- Launchers -----------------------------------------------------------------------------------
std::size_t padded(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

constexpr std::size_t kHeadBytes = 256 + kMostMaxima * sizeof(unsigned);  // the scale, the maxima

template <typename Body>
void with_choices(const Float8Request& request, Body&& body) {
  const auto with_format = [&](auto format) {
    constexpr DType kFormat = decltype(format)::value;
    if (request.plain && request.transposed) {
      body(&to_float8_kernel<kFormat, true, true>);
    } else if (request.plain) {
      body(&to_float8_kernel<kFormat, true, false>);
    } else {
      body(&to_float8_kernel<kFormat, false, true>);
    }
  };
  if (request.format == DType::e4m3) {
    with_format(std::integral_constant<DType, DType::e4m3>{});
  } else {
    with_format(std::integral_constant<DType, DType::e5m2>{});
  }
}

}  // namespace

std::size_t Float8Request::bytes() const {
  const std::size_t copy = padded(static_cast<std::size_t>(x.numel()));
  return kHeadBytes + (plain ? copy : 0) + (transposed ? copy : 0);
}

bool fits_float8(const Tensor& x, bool transposed) {
  return x.dtype() == DType::bf16 && x.numel() > 0 && x.dim(1) % 16 == 0 &&
         (!transposed || x.dim(0) % 16 == 0) && reinterpret_cast<std::uintptr_t>(x.raw()) % 16 == 0;
}

Float8Copies to_float8(const Float8Request& request, void* memory, cudaStream_t stream) {
  const Tensor& x = request.x;
  BERT_CHECK(fits_float8(x, request.transposed) && is_float8(request.format) &&
                 (request.plain || request.transposed) &&
                 reinterpret_cast<std::uintptr_t>(memory) % 64 == 0,
             "FP8 copies of {}", x.shape_string());
  const std::int64_t rows = x.dim(0), columns = x.dim(1);
  auto* const bytes = static_cast<std::uint8_t*>(memory);
  auto* const scale = reinterpret_cast<float*>(bytes);
  auto* const maxima = reinterpret_cast<unsigned*>(bytes + 256);
  std::uint8_t* const plain = bytes + kHeadBytes;
  std::uint8_t* const transposed =
      plain + (request.plain ? padded(static_cast<std::size_t>(x.numel())) : 0);

  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(
      ceil_div(x.numel(), std::int64_t{kThreads} * kVec<__nv_bfloat16>), kMostMaxima));
  launch("absolute_maxima", &absolute_maxima, {.grid = dim3(blocks), .block = dim3(kThreads)},
         stream, x.data<__nv_bfloat16>(), request.rows, rows, columns, maxima);
  const std::int64_t tiles = ceil_div(rows, kTileRows) * ceil_div(columns, kTileColumns);
  with_choices(request, [&](auto* kernel) {
    launch("to_float8", kernel,
           {.grid = dim3(static_cast<unsigned>(tiles)), .block = dim3(kThreads)}, stream,
           x.data<__nv_bfloat16>(), request.rows, rows, columns, maxima, static_cast<int>(blocks),
           scale, plain, transposed);
  });

  Float8Copies copies{.scale = scale};
  if (request.plain) copies.plain = Tensor(plain, request.format, {rows, columns});
  if (request.transposed) copies.transposed = Tensor(transposed, request.format, {columns, rows});
  return copies;
}

void check_float8_support(int major, int minor, std::string_view gpu) {
  if (major * 10 + minor >= 89) return;
  throw_input_error(
      "fp8 needs a GPU of compute capability 8.9 or later (Ada, Hopper and later), and {} has "
      "{}.{}; use bf16",
      gpu, major, minor);
}

}  // namespace bert::BERT_CUDA
