// Products and what surrounds them. The products themselves are Gemm's (cuBLASLt on a GPU): 2 R N K
// FLOP forward, twice that backward. They run over the whole capacity: tail rows of x are finite
// and those of dy zero, so nothing of them reaches dweight, and tail rows of dx become zero.
//
// In FP8, where that is on and allowed, operands are copied first (float8.cu): forward x and W; dy
// both ways round, W and x transposed backward, since the product wants both along the summed
// dimension. The copies are scratch memory of this op and are made anew each time.
//
// Kernels, for elements of s bytes; all are limited by memory:
//   finish_product     reads s, writes s or 2 s an element; about 15 FLOP. Only where Gemm does not
//                      do the epilogue: GELU by erf, tanh, no pre-activation wanted, or not worth
//                      it.
//   differentiate      reads 2 s, writes s an element; about 25 FLOP. The same for backward.
//   sum_columns        reads s an element; 1 FLOP. Only where the product for dweight, which reads
//                      dy as well, does not sum on the way.
//   add_partial_sums   over a row of N sums from Gemm, or some 1000 from sum_columns.
// Blocks are 32 columns of threads by 8 rows; a thread holds 8 consecutive columns (16 or 32 bytes;
// one column where N is not a multiple of 8) and walks down the rows of its block.
#include <algorithm>
#include <array>

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/float8.h"
#include "kernels/cuda/vec.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

constexpr int kLanes = 32;                   // threads along columns
constexpr int kBlockRows = 8;                // threads along rows
constexpr int kSumRows = 32;                 // threads along partial sums
constexpr int kBlocksPerMultiprocessor = 8;  // of 256 threads: as many as are resident

// --- Kernels -------------------------------------------------------------------------------------
template <int kWidth, class T>
__device__ __forceinline__ void load_group(const T* from, float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    values[0] = to_float(*from);
  } else {
    load_floats(from, values);
  }
}
template <int kWidth, class T>
__device__ __forceinline__ void store_group(T* to, const float (&values)[kWidth]) {
  if constexpr (kWidth == 1) {
    *to = from_float<T>(values[0]);
  } else {
    store_floats(to, values);
  }
}

// pre = product + bias, y = activation(pre), all [rows, columns]. `bias` and `pre` may be null;
// `product` may be `pre` or `y`.
template <class T, Activation kActivation, int kWidth>
__global__ void __launch_bounds__(kLanes* kBlockRows)
    finish_product(const T* product, const T* bias, T* pre, T* y, std::int64_t rows,
                   std::int64_t columns) {
  const std::int64_t column =
      (static_cast<std::int64_t>(blockIdx.x) * kLanes + threadIdx.x) * kWidth;
  if (column >= columns) return;
  float added[kWidth] = {};
  if (bias != nullptr) load_group(bias + column, added);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kBlockRows;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kBlockRows + threadIdx.y;
       row < rows; row += step) {
    const std::int64_t at = row * columns + column;
    float values[kWidth];
    load_group(product + at, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] += added[i];
    if (pre != nullptr) store_group(pre + at, values);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] = activate<kActivation>(values[i]);
    store_group(y + at, values);
  }
}

// dx = dy * activation'(pre), element by element; dx may be dy.
template <class T, Activation kActivation, int kWidth>
__global__ void __launch_bounds__(kLanes* kBlockRows)
    differentiate(const T* dy, const T* pre, T* dx, std::int64_t size) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kWidth;
  for (std::int64_t at =
           (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kWidth;
       at < size; at += step) {
    float values[kWidth], inputs[kWidth];
    load_group(dy + at, values);
    load_group(pre + at, inputs);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] *= activation_derivative<kActivation>(inputs[i]);
    store_group(dx + at, values);
  }
}

// partials[b] = the sums of dy's columns over the rows that blocks with blockIdx.y == b walk.
template <class T, int kWidth>
__global__ void __launch_bounds__(kLanes* kBlockRows)
    sum_columns(const T* dy, DeviceCount count, std::int64_t capacity, std::int64_t columns,
                float* partials) {
  BERT_SHARED(float, sums, kBlockRows* kLanes* kWidth);
  const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(threadIdx.y);
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kLanes + lane) * kWidth;
  const std::int64_t rows = min(static_cast<std::int64_t>(*count), capacity);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kBlockRows;
  float total[kWidth] = {};
  if (column < columns) {
    for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kBlockRows + own; row < rows;
         row += step) {
      float values[kWidth];
      load_group(dy + row * columns + column, values);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) total[i] += values[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) sums[(own * kWidth + i) * kLanes + lane] = total[i];
  __syncthreads();
  if (own != 0 || column >= columns) return;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < kBlockRows; ++r) sum += sums[(r * kWidth + i) * kLanes + lane];
    partials[static_cast<std::int64_t>(blockIdx.y) * columns + column + i] = sum;
  }
}

// into[column] += the sum of `count` rows of partials [count, columns].
__global__ void __launch_bounds__(kLanes* kSumRows)
    add_partial_sums(const float* partials, int count, std::int64_t columns, float* into) {
  BERT_SHARED(float, sums, kSumRows* kLanes);
  const int lane = static_cast<int>(threadIdx.x), own = static_cast<int>(threadIdx.y);
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kLanes + lane;
  float total = 0.0f;
  if (column < columns) {
    for (int row = own; row < count; row += kSumRows) total += partials[row * columns + column];
  }
  sums[own * kLanes + lane] = total;
  __syncthreads();
  if (own != 0 || column >= columns) return;
  float sum = 0.0f;
#pragma unroll
  for (int r = 0; r < kSumRows; ++r) sum += sums[r * kLanes + lane];
  into[column] += sum;
}

// --- Launchers -----------------------------------------------------------------------------------
// Whether all of these can be read and written 16 bytes at a time, 8 elements a thread.
bool vectorizes(std::int64_t columns, std::initializer_list<const void*> addresses) {
  return columns % kGroup == 0 &&
         std::all_of(addresses.begin(), addresses.end(), [](const void* address) {
           return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
         });
}

// Calls body with the columns a thread holds as a compile-time constant.
template <typename Body>
void with_width(bool vectorized, Body&& body) {
  if (vectorized) {
    body(std::integral_constant<int, kGroup>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

// Blocks over [rows, columns]: every column, and as many along rows as fill the device.
LaunchShape over_rows(std::int64_t rows, std::int64_t columns, int width, int multiprocessors) {
  const std::int64_t across = ceil_div(columns, std::int64_t{kLanes} * width);
  const std::int64_t wanted = ceil_div(std::int64_t{multiprocessors} * kBlocksPerMultiprocessor,
                                       std::max<std::int64_t>(across, 1));
  const std::int64_t down = std::min({wanted, ceil_div(rows, kBlockRows), std::int64_t{65535}});
  return {.grid = dim3(static_cast<unsigned>(across), static_cast<unsigned>(down)),
          .block = dim3(kLanes, kBlockRows)};
}

template <class T>
void launch_finish_product(const Tensor& product, const Tensor& bias, const Tensor& pre,
                           Activation activation, const Tensor& y, int multiprocessors,
                           cudaStream_t stream) {
  const std::int64_t rows = y.dim(0), columns = y.dim(1);
  const bool vectorized = vectorizes(columns, {product.raw(), bias.raw(), pre.raw(), y.raw()});
  with_activation(activation, [&](auto act) {
    with_width(vectorized, [&](auto width) {
      launch("finish_product", &finish_product<T, decltype(act)::value, decltype(width)::value>,
             over_rows(rows, columns, decltype(width)::value, multiprocessors), stream,
             product.data<T>(), bias.data<T>(), pre.data<T>(), y.data<T>(), rows, columns);
    });
  });
}

template <class T>
void launch_differentiate(const Tensor& dy, const Tensor& pre, Activation activation,
                          const Tensor& dx, int multiprocessors, cudaStream_t stream) {
  constexpr int kThreads = kLanes * kBlockRows;
  const std::int64_t size = dx.numel();
  with_activation(activation, [&](auto act) {
    with_width(vectorizes(size, {dy.raw(), pre.raw(), dx.raw()}), [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      const std::int64_t blocks =
          std::min(ceil_div(size, std::int64_t{kThreads} * kWidth),
                   std::int64_t{multiprocessors} * kBlocksPerMultiprocessor);
      launch("differentiate", &differentiate<T, decltype(act)::value, kWidth>,
             {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads)}, stream,
             dy.data<T>(), pre.data<T>(), dx.data<T>(), size);
    });
  });
}

LaunchShape column_sums_shape(const Tensor& dy, int multiprocessors) {
  const int width = vectorizes(dy.dim(1), {dy.raw()}) ? kGroup : 1;
  return over_rows(dy.dim(0), dy.dim(1), width, multiprocessors);
}

// partials [grid.y of column_sums_shape, N] = the column sums of dy, over fixed partitions of its
// rows.
template <class T>
void launch_column_sums(const Tensor& dy, DeviceCount count, float* partials, int multiprocessors,
                        cudaStream_t stream) {
  with_width(vectorizes(dy.dim(1), {dy.raw()}), [&](auto width) {
    launch("sum_columns", &sum_columns<T, decltype(width)::value>,
           column_sums_shape(dy, multiprocessors), stream, dy.data<T>(), count, dy.dim(0),
           dy.dim(1), partials);
  });
}

// dbias += the sum of `count` rows of partials [count, N].
void launch_add_partial_sums(const float* partials, int count, const Tensor& dbias,
                             cudaStream_t stream) {
  const std::int64_t columns = dbias.numel();
  launch("add_partial_sums", &add_partial_sums,
         {.grid = dim3(static_cast<unsigned>(ceil_div(columns, kLanes))),
          .block = dim3(kLanes, kSumRows)},
         stream, partials, count, columns, dbias.data<float>());
}

// --- FP8 -----------------------------------------------------------------------------------------
bool is_aligned(const Tensor& x) { return reinterpret_cast<std::uintptr_t>(x.raw()) % 16 == 0; }

// The copies of all requests that want any, in one piece of scratch memory.
template <std::size_t kCount>
std::array<Float8Copies, kCount> make_copies(const std::array<Float8Request, kCount>& requests,
                                             Scratch& scratch, cudaStream_t stream) {
  std::size_t bytes = 0;
  for (const Float8Request& request : requests) bytes += request.bytes();
  auto* memory = scratch.reserve<std::byte>(static_cast<std::int64_t>(bytes));
  std::array<Float8Copies, kCount> copies;
  for (std::size_t i = 0; i < kCount; ++i) {
    if (!requests[i].plain && !requests[i].transposed) continue;
    copies[i] = to_float8(requests[i], memory, stream);
    memory += requests[i].bytes();
  }
  return copies;
}

// Both are copies along the product's summed dimension.
void set_operands(GemmCall& call, const Tensor& a, const float* a_scale, const Tensor& b,
                  const float* b_scale) {
  call.a = a;
  call.b = b;
  call.transpose_a = false;
  call.transpose_b = true;
  call.a_scale = a_scale;
  call.b_scale = b_scale;
}

}  // namespace

// --- Ops -----------------------------------------------------------------------------------------
void CudaOps::linear_forward(const LinearForward& op) {
  check(op, dtype());
  if (op.y.numel() == 0) return;
  GemmCall call{.a = op.x, .b = op.weight.compute, .d = op.y, .transpose_b = true};
  if (fp8_ && op.allow_fp8 && fits_float8(op.x, false) && fits_float8(op.weight.compute, true) &&
      is_aligned(op.y) && is_aligned(op.pre_activation) && is_aligned(op.bias)) {
    const auto [x, weight] =
        make_copies<2>({{{.x = op.x, .rows = op.rows, .format = DType::e4m3, .plain = true},
                         {.x = op.weight.compute, .format = DType::e4m3, .plain = true}}},
                       scratch_, stream_);
    set_operands(call, x.plain, x.scale, weight.plain, weight.scale);
  }
  // Without an epilogue for all: the pre-activation comes from the product and y from the kernel,
  // or all from one memory.
  GemmCall plain = call;
  if (op.pre_activation) plain.d = op.pre_activation;
  Tensor bias = op.bias, pre = op.pre_activation;
  if (op.bias) {
    GemmCall with_bias = plain;
    with_bias.epilogue = Epilogue::bias;
    with_bias.bias = op.bias;
    if (gemm_->fuses(with_bias)) {
      plain = with_bias;
      bias = pre = {};  // done by the product
    }
  } else {
    pre = {};
  }
  const auto finish = [&](const Tensor& product) {
    if (!bias && op.activation == Activation::none) return;
    with_real([&](auto real) {
      launch_finish_product<decltype(real)>(product, bias, pre, op.activation, op.y,
                                            multiprocessors_, stream_);
    });
  };
  if (op.activation == Activation::gelu_new && op.bias && op.pre_activation) {
    call.epilogue = Epilogue::gelu_new_aux_bias;
    call.bias = op.bias;
    call.aux = op.pre_activation;
    if (gemm_->worth_fusing(call, plain, finish, stream_)) return gemm_->run(call, stream_);
  }
  gemm_->run(plain, stream_);
  finish(plain.d);
}

void CudaOps::add_weight_gradients(const LinearBackward& op, bool with_dweight) {
  const GemmCall plain{
      .a = op.dy, .b = op.x, .d = op.dweight, .transpose_a = true, .sums_rows = true, .beta = 1.0f};
  if (!op.dbias) {
    if (with_dweight) gemm_->run(plain, stream_);
    return;
  }
  // As many rows as sum_columns leaves; the product leaves one.
  auto rows = static_cast<int>(column_sums_shape(op.dy, multiprocessors_).grid.y);
  float* const partials = scratch_.reserve<float>(rows * op.dy.dim(1));
  const auto sum_columns_of_dy = [&](const Tensor&) {
    with_real([&](auto real) {
      launch_column_sums<decltype(real)>(op.dy, op.rows, partials, multiprocessors_, stream_);
    });
  };
  GemmCall fused = plain;
  fused.epilogue = Epilogue::bias_gradient;
  fused.bias = Tensor(partials, DType::f32, {op.dy.dim(1)});
  if (with_dweight && gemm_->worth_fusing(fused, plain, sum_columns_of_dy, stream_)) {
    gemm_->run(fused, stream_);
    rows = 1;
  } else {
    if (with_dweight) gemm_->run(plain, stream_);
    sum_columns_of_dy({});
  }
  launch_add_partial_sums(partials, rows, op.dbias, stream_);
}

void CudaOps::linear_backward(const LinearBackward& op) {
  check(op, dtype());
  if (op.dy.numel() == 0) return;
  const bool fp8 = fp8_ && op.allow_fp8 && fits_float8(op.weight.compute, true);
  const bool fp8_dx = fp8 && op.dx && fits_float8(op.dy, false) && is_aligned(op.dx);
  const bool fp8_dweight = fp8 && op.dweight && fits_float8(op.dy, true) &&
                           fits_float8(op.x, true) && is_aligned(op.dweight);
  // Before the FP8 copies, which are in the same scratch memory. dbias is the sum of dy as it is,
  // not of its copy in FP8.
  add_weight_gradients(op, op.dweight && !fp8_dweight);
  GemmCall call{.a = op.dy, .b = op.weight.compute, .d = op.dx};
  if (fp8_dx || fp8_dweight) {
    const auto [dy, x, weight] = make_copies<3>(
        {{{.x = op.dy,
           .rows = op.rows,
           .format = DType::e5m2,
           .plain = fp8_dx,
           .transposed = fp8_dweight},
          {.x = op.x, .rows = op.rows, .format = DType::e4m3, .transposed = fp8_dweight},
          {.x = op.weight.compute, .format = DType::e4m3, .transposed = fp8_dx}}},
        scratch_, stream_);
    if (fp8_dweight) {
      GemmCall for_dweight{.d = op.dweight, .sums_rows = true, .beta = 1.0f};
      set_operands(for_dweight, dy.transposed, dy.scale, x.transposed, x.scale);
      gemm_->run(for_dweight, stream_);
    }
    if (fp8_dx) set_operands(call, dy.plain, dy.scale, weight.transposed, weight.scale);
  }
  if (!op.dx) return;
  call.beta = op.accumulate_dx ? 1.0f : 0.0f;
  const auto finish = [&](const Tensor& dx) {
    if (op.input_activation == Activation::none) return;
    with_real([&](auto real) {
      launch_differentiate<decltype(real)>(dx, op.input_pre_activation, op.input_activation, dx,
                                           multiprocessors_, stream_);
    });
  };
  if (op.input_activation == Activation::gelu_new) {
    GemmCall fused = call;
    fused.epilogue = Epilogue::dgelu_new;
    fused.aux = op.input_pre_activation;
    if (gemm_->worth_fusing(fused, call, finish, stream_)) return gemm_->run(fused, stream_);
  }
  gemm_->run(call, stream_);
  finish(op.dx);
}

void CudaOps::activation_backward(const ActivationBackward& op) {
  check(op, dtype());
  with_real([&](auto real) {
    launch_differentiate<decltype(real)>(op.dy, op.pre_activation, op.activation, op.dx,
                                         multiprocessors_, stream_);
  });
}

}  // namespace bert::BERT_CUDA
