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
  BERT_SHARED(__nv_bfloat16, b_tile, 16 * 8);
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  for (int i = lane; i < 16 * 16; i += 32) a_tile[i] = a[i];
  for (int i = lane; i < 16 * 8; i += 32) b_tile[i] = b[i];
  __syncwarp(kFullMask);
  unsigned a_part[4], b_part[2];
  ldmatrix_x4(a_part, a_tile + lane % 16 * 16 + lane / 16 * 8);
  ldmatrix_x2_trans(b_part, b_tile + lane % 16 * 8);
  float sums[4] = {c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1], c[(g + 8) * 8 + 2 * t],
                   c[(g + 8) * 8 + 2 * t + 1]};
  mma_m16n8k16(sums, a_part, b_part, sums);
  d[g * 8 + 2 * t] = sums[0];
  d[g * 8 + 2 * t + 1] = sums[1];
  d[(g + 8) * 8 + 2 * t] = sums[2];
  d[(g + 8) * 8 + 2 * t + 1] = sums[3];
}

__global__ void multiply_tf32(const float* a, const float* b, const float* c, float* d) {
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  const unsigned a_part[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]),
                              to_tf32(a[g * 8 + t + 4]), to_tf32(a[(g + 8) * 8 + t + 4])};
  const unsigned b_part[2] = {to_tf32(b[t * 8 + g]), to_tf32(b[(t + 4) * 8 + g])};
  const float start[4] = {c[g * 8 + 2 * t], c[g * 8 + 2 * t + 1], c[(g + 8) * 8 + 2 * t],
                          c[(g + 8) * 8 + 2 * t + 1]};
  float sums[4];
  mma_m16n8k8_tf32(sums, a_part, b_part, start);
  d[g * 8 + 2 * t] = sums[0];
  d[g * 8 + 2 * t + 1] = sums[1];
  d[(g + 8) * 8 + 2 * t] = sums[2];
  d[(g + 8) * 8 + 2 * t + 1] = sums[3];
}

template <int Matrices, bool Transposed>
__global__ void load_matrices(const std::uint16_t* rows, unsigned* out) {
  auto* tile = dynamic_shared<std::uint16_t>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < Matrices * 64; i += 32) tile[i] = rows[i];
  __syncthreads();
  unsigned r[Matrices];
  // x2 does not read the addresses of the upper lanes.
  const void* row = lane < Matrices * 8 ? tile + lane * 8 : nullptr;
  if constexpr (Matrices == 4) {
    if constexpr (Transposed) {
      ldmatrix_x4_trans(r, row);
    } else {
      ldmatrix_x4(r, row);
    }
  } else {
    if constexpr (Transposed) {
      ldmatrix_x2_trans(r, row);
    } else {
      ldmatrix_x2(r, row);
    }
  }
  for (int m = 0; m < Matrices; ++m) out[m * 32 + lane] = r[m];
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
  out[count + i] = tanh_approx(x[i]);
  out[2 * count + i] = __uint_as_float(to_tf32(x[i]));
  const float2 pair = unpack_bf16(pack_bf16(x[i], -x[i]));
  out[3 * count + i] = pair.x;
  out[4 * count + i] = pair.y;
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
void launch_mma_tf32(const float* a, const float* b, const float* c, float* d) {
  launch("multiply_tf32", multiply_tf32, {dim3(1), dim3(32)}, nullptr, a, b, c, d);
}
void launch_ldmatrix(const std::uint16_t* rows, unsigned* out, int matrices, bool transposed) {
  const LaunchShape shape{dim3(1), dim3(32), static_cast<std::size_t>(matrices) * 128};
  const auto kernel = matrices == 4
                          ? (transposed ? load_matrices<4, true> : load_matrices<4, false>)
                          : (transposed ? load_matrices<2, true> : load_matrices<2, false>);
  launch("load_matrices", kernel, shape, nullptr, rows, out);
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
