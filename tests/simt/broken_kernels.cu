#include "kernels/cuda/intrinsics.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "tests/simt/broken_kernels.h"

namespace bert::BERT_CUDA {
namespace {

__global__ void reverse_kernel(Break what, const float* in, float* out) {
  BERT_SHARED(float, tile, 64);
  float* const extra = dynamic_shared<float>();  // one for each thread
  const int i = static_cast<int>(threadIdx.x);
  if (what == Break::return_before_barrier && i == 40) return;
  if (what == Break::trap && i == 3) __trap();
  if (what != Break::unwritten_shared || i != 5) tile[i] = in[i];
  extra[i] = 0.0f;
  float* const memory = tile;
  if (what == Break::write_behind_shared && i == 7) memory[i * 10 - 6] = 1.0f;  // 64
  if (what == Break::write_before_shared && i == 7) memory[i - 8] = 1.0f;
  if (what == Break::write_behind_dynamic && i == 7) extra[64] = 1.0f;
  if (what == Break::write_before_dynamic && i == 7) extra[i - 8] = 1.0f;
  if (what == Break::too_much_static_shared) {
    BERT_SHARED(float, large, 12 * 1024);  // alone it would fit
    large[i] = 0.0f;
  }
  if (what == Break::divergent_barriers) {
    if (i < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if (what != Break::missing_barrier) {
    __syncthreads();
  }
  out[i] = tile[63 - i];
  if (what == Break::write_behind_global && i == 63) out[64] = 0.0f;
  if (what == Break::read_behind_global && i == 63) out[63] = in[64];
  if (what == Break::write_behind_local) {
    float local[4] = {};
    local[i % 8] = in[i];
    for (int j = 0; j < 4; ++j) out[i] += local[(i + j) % 4];
  }
}

__global__ void copy_vectors_kernel(Break what, const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x) * 4;
  float values[4];
  load_floats(in + i, values);
  store_floats(out + i, values);
  if (what == Break::misaligned_ldmatrix) {
    BERT_SHARED(float, tile, 128);
    unsigned r[4];
    ldmatrix_x4(r, tile + 2);
  }
}

__global__ void sum_warps_kernel(Break what, const float* in, float* out) {
  const int i = static_cast<int>(threadIdx.x), lane = i % 32;
  const unsigned mask = what == Break::source_not_in_mask ? 1u << lane : kFullMask;
  if (what == Break::lane_returned && i == 17) return;
  float sum = in[i];
  if (what == Break::caller_not_in_mask) __shfl_sync(0x7fffffffu, sum, 0);
  if (what == Break::divergent_shuffles) {
    for (int offset = 16; offset > 0; offset /= 2) {
      if (lane < 16) {
        sum += __shfl_xor_sync(kFullMask, sum, offset);
      } else {
        sum += __shfl_xor_sync(kFullMask, sum, offset);
      }
    }
  } else {
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(mask, sum, offset);
  }
  out[i] = sum;
}

__global__ void copy_asynchronously_kernel(Break what, const float* in, float* out) {
  BERT_SHARED(float, tile, 128);
  const int i = static_cast<int>(threadIdx.x) * 4, other = (i + 4) % 128;
  for (int j = i; j < i + 4; ++j) tile[j] = 0.0f;  // what an earlier round has left there
  cp_async_16(tile + i, in + i, true);
  cp_async_commit();
  if (what == Break::copy_read_too_early) {
    cp_async_wait<1>();
  } else if (what != Break::copy_never_waited_for) {
    cp_async_wait<0>();
  }
  __syncthreads();
  for (int j = other; j < other + 4; ++j) out[j] = tile[j];
  if (what == Break::copy_read_too_early) cp_async_wait<0>();
}

__global__ void exchange_kernel(Break what, const float* in, float* out) {
  BERT_SHARED(float, tile, 32);
  const int lane = static_cast<int>(threadIdx.x);
  tile[lane] = in[lane];
  if (what != Break::missing_syncwarp) __syncwarp(kFullMask);
  // A shuffle brings lanes together, but does not order memory.
  const int other = __shfl_xor_sync(kFullMask, lane, 1);
  out[lane] = tile[other];
}

__global__ void sum_by_last_block_kernel(Break what, const float* in, float* partial,
                                         unsigned* counter, float* total) {
  BERT_SHARED(int, is_last, 1);
  const float sum = block_sum(in[blockIdx.x * blockDim.x + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    if (what != Break::missing_fence) __threadfence();
    unsigned before;
    if (what == Break::plain_counter) {
      before = (*counter)++;
    } else {
      before = atomicAdd(counter, 1u);
    }
    is_last[0] = before == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last[0] == 0) return;
  if (what != Break::missing_fence) __threadfence();
  if (threadIdx.x == 0) {
    float all = 0.0f;
    for (unsigned b = 0; b < gridDim.x; ++b) all += partial[b];
    *total = all;
  }
}

__global__ void empty_kernel() {}

__global__ void record_order_kernel(int* order, unsigned* counter) {
  const unsigned place = atomicAdd(counter, 1u);
  order[place] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

__global__ void subtract_products_kernel(Break what, const float* in, float* out) {
  constexpr float kFactor = 1.44269504f;
  BERT_SHARED(float, products, 64);
  const int i = static_cast<int>(threadIdx.x);
  products[i] = in[i] * kFactor;
  __syncthreads();
  if (what == Break::product_in_multiply_add) {
    out[i] = in[i] * kFactor - products[i];
  } else {
    out[i] = __fmul_rn(in[i], kFactor) - products[i];
  }
}

}  // namespace

void reverse_in_shared(Break what, const float* in, float* out) {
  launch("reverse_kernel", reverse_kernel, {dim3(1), dim3(64), 64 * sizeof(float)}, nullptr, what,
         in, out);
}
void copy_vectors(Break what, const float* in, float* out) {
  const unsigned threads = what == Break::misaligned_ldmatrix ? 32 : 16;
  launch("copy_vectors_kernel", copy_vectors_kernel, {dim3(1), dim3(threads)}, nullptr, what, in,
         out);
}
void sum_warps(Break what, const float* in, float* out) {
  const unsigned threads = what == Break::lanes_beyond_block ? 48 : 64;
  launch("sum_warps_kernel", sum_warps_kernel, {dim3(1), dim3(threads)}, nullptr, what, in, out);
}
void copy_asynchronously(Break what, const float* in, float* out) {
  launch("copy_asynchronously_kernel", copy_asynchronously_kernel, {dim3(1), dim3(32)}, nullptr,
         what, in, out);
}
void exchange_in_warp(Break what, const float* in, float* out) {
  launch("exchange_kernel", exchange_kernel, {dim3(1), dim3(32)}, nullptr, what, in, out);
}
void sum_by_last_block(Break what, const float* in, float* partial, unsigned* counter, float* total,
                       int blocks) {
  launch("sum_by_last_block_kernel", sum_by_last_block_kernel,
         {dim3(static_cast<unsigned>(blocks)), dim3(64)}, nullptr, what, in, partial, counter,
         total);
}
void subtract_products(Break what, const float* in, float* out) {
  launch("subtract_products_kernel", subtract_products_kernel, {dim3(1), dim3(64)}, nullptr, what,
         in, out);
}
bool makes_multiply_adds() {
#ifdef BERT_SIMT_MULTIPLY_ADDS
  return true;
#else
  return false;
#endif
}
void launch_empty(unsigned grid, unsigned threads, std::uint64_t shared_bytes) {
  launch("empty_kernel", empty_kernel, {dim3(grid), dim3(threads), shared_bytes}, nullptr);
}
void record_order(int* order, unsigned* counter) {
  launch("record_order_kernel", record_order_kernel, {dim3(2), dim3(32)}, nullptr, order, counter);
}

}  // namespace bert::BERT_CUDA
