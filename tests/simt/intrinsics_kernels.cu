#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "tests/simt/intrinsics_kernels.h"

namespace bert::BERT_CUDA {
namespace {

__global__ void add(const float* x, const float* y, float* sum, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) sum[i] = x[i] + y[i];
}

__global__ void sum_blocks(const float* x, float* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  float sums[2] = {x[i], 1.0f};
  block_sum(sums);
  out[i] = sums[1] == static_cast<float>(blockDim.x) ? sums[0] : -1.0f;
}

__global__ void max_blocks(const float* x, float* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = block_max(x[i]);
}

__global__ void multiply_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, const float* c,
                              float* d) {
  BERT_SHARED(__nv_bfloat16, a_tile, 16 * 16);
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  for (int i = lane; i < 16 * 16; i += 32) a_tile[i] = a[i];
  __syncwarp(kFullMask);
  unsigned a_part[4];
  ldmatrix_x4(a_part, a_tile + lane % 16 * 16 + lane / 16 * 8);
  const auto b_pair = [&](int k) {
    return pack_bf16(to_float(b[k * 8 + g]), to_float(b[(k + 1) * 8 + g]));
  };
  const unsigned b_part[2] = {b_pair(2 * t), b_pair(2 * t + 8)};
  float sums[4] = {c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1], c[(g + 8) * 8 + 2 * t],
                   c[(g + 8) * 8 + 2 * t + 1]};
  mma_m16n8k16(sums, a_part, b_part, sums);
  d[g * 8 + 2 * t] = sums[0];
  d[g * 8 + 2 * t + 1] = sums[1];
  d[(g + 8) * 8 + 2 * t] = sums[2];
  d[(g + 8) * 8 + 2 * t + 1] = sums[3];
}

template <bool Transposed>
__global__ void load_matrices(const std::uint16_t* rows, unsigned* out) {
  BERT_SHARED(std::uint16_t, tile, 4 * 64);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 4 * 64; i += 32) tile[i] = rows[i];
  __syncthreads();
  unsigned r[4];
  if constexpr (Transposed) {
    ldmatrix_x4_trans(r, tile + lane * 8);
  } else {
    ldmatrix_x4(r, tile + lane * 8);
  }
  for (int m = 0; m < 4; ++m) out[m * 32 + lane] = r[m];
}

__global__ void copy_in_two_groups(const float* in, float* out) {
  BERT_SHARED(float, tile, 128);
  const int i = static_cast<int>(threadIdx.x) * 4;
  const bool second = threadIdx.x >= 16;
  if (!second) cp_async_16(tile + i, in + i, true);
  cp_async_commit();
  if (second) cp_async_16(tile + i, in, false);
  cp_async_commit();
  cp_async_wait<1>();
  if (!second) out[i] = tile[i];
  cp_async_wait<0>();
  __syncthreads();
  for (int j = i; j < i + 4; ++j) out[127 - j] = tile[127 - j];
}

__global__ void convert(const float* x, float* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  out[i] = exp2_approx(x[i]);
  const float2 pair = unpack_bf16(pack_bf16(x[i], -x[i]));
  out[count + i] = pair.x;
  out[2 * count + i] = pair.y;
}

__global__ void multiply_wide(const std::uint32_t* a, const std::uint32_t* b, std::uint64_t* out) {
  const int i = thread_anew();
  out[i] = WideProduct{}(a[i], b[i]);
}

__global__ void find_kept(const std::uint32_t* values, unsigned threshold, std::uint32_t* out,
                          int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) out[i] = kept_halves(values[i], threshold);
}

__global__ void round_trip(const float* x, __nv_bfloat16* half, float* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) * 8;
  if (i >= count) return;
  float values[8];
  load_floats<Reuse::once>(x + i, values);
  store_floats(half + i, values);
  load_floats(half + i, values);
  store_floats<Reuse::once>(out + i, values);
}

}  // namespace

void launch_add(const float* x, const float* y, float* sum, int count) {
  const unsigned blocks = static_cast<unsigned>(count + 127) / 128;
  launch("add", add, {dim3(blocks), dim3(128)}, nullptr, x, y, sum, count);
}
void launch_block_sum(const float* x, float* out, int blocks, int threads) {
  launch("sum_blocks", sum_blocks,
         {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads))}, nullptr, x,
         out);
}
void launch_block_max(const float* x, float* out, int blocks, int threads) {
  launch("max_blocks", max_blocks,
         {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads))}, nullptr, x,
         out);
}
void launch_mma_bf16(const std::uint16_t* a, const std::uint16_t* b, const float* c, float* d) {
  launch("multiply_bf16", multiply_bf16, {dim3(1), dim3(32)}, nullptr,
         reinterpret_cast<const __nv_bfloat16*>(a), reinterpret_cast<const __nv_bfloat16*>(b), c,
         d);
}
void launch_ldmatrix(const std::uint16_t* rows, unsigned* out, bool transposed) {
  launch("load_matrices", transposed ? load_matrices<true> : load_matrices<false>,
         {dim3(1), dim3(32)}, nullptr, rows, out);
}
void launch_cp_async(const float* in, float* out) {
  launch("copy_in_two_groups", copy_in_two_groups, {dim3(1), dim3(32)}, nullptr, in, out);
}
void launch_conversions(const float* x, float* out, int count) {
  const unsigned blocks = static_cast<unsigned>(count + 127) / 128;
  launch("convert", convert, {dim3(blocks), dim3(128)}, nullptr, x, out, count);
}
void launch_wide_products(const std::uint32_t* a, const std::uint32_t* b, std::uint64_t* out,
                          int count) {
  launch("multiply_wide", multiply_wide, {dim3(1), dim3(static_cast<unsigned>(count))}, nullptr, a,
         b, out);
}
void launch_kept_halves(const std::uint32_t* values, unsigned threshold, std::uint32_t* out,
                        int count) {
  launch("find_kept", find_kept, {dim3(static_cast<unsigned>(count + 127) / 128), dim3(128)},
         nullptr, values, threshold, out, count);
}
void launch_round_trip(const float* x, std::uint16_t* half, float* out, int count) {
  const unsigned blocks = static_cast<unsigned>(count + 1023) / 1024;
  launch("round_trip", round_trip, {dim3(blocks), dim3(128)}, nullptr, x,
         reinterpret_cast<__nv_bfloat16*>(half), out, count);
}

}  // namespace bert::BERT_CUDA
