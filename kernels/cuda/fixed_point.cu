// Sums in fixed point: 20 bytes an element to add (x read, sums read and written), 12 to read; a
// product in f64 and a conversion each. Limited by memory.
//
// A thread takes two elements at a time: 16 bytes of sums. The largest |x| is found as an integer,
// which an f32 without its sign orders as: a maximum is the same in whatever order the warps add
// theirs to it.
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

// --- Kernels -------------------------------------------------------------------------------------
constexpr int kThreads = 256;
constexpr int kBlocksPerSm = 8;
constexpr unsigned kInfinity = 0x7f800000u;  // the bits of it; those of NaN are larger

__device__ __forceinline__ long long added(long long sum, float x, double per_unit) {
  const double units = static_cast<double>(x) * per_unit;
  const bool fits = fabs(units) < 0x1p62;  // NaN does not
  // Wraps round where the unit was too small: unsigned.
  return static_cast<long long>(
      static_cast<unsigned long long>(sum) +
      static_cast<unsigned long long>(__double2ll_rn(fits ? units : 0.0)));
}

__device__ __forceinline__ unsigned magnitude_bits(float x) {
  return __float_as_uint(x) & 0x7fffffffu;
}

__global__ void __launch_bounds__(kThreads)
    add_multiples(const float* __restrict__ x, long long* __restrict__ sums, std::int64_t n,
                  FixedPoint* fixed) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const double per_unit = 1.0 / fixed->unit;
  unsigned largest = 0;
  for (std::int64_t pair = first; pair < n / 2; pair += stride) {
    const float2 two = reinterpret_cast<const float2*>(x)[pair];
    longlong2 total = reinterpret_cast<longlong2*>(sums)[pair];
    total.x = added(total.x, two.x, per_unit);
    total.y = added(total.y, two.y, per_unit);
    reinterpret_cast<longlong2*>(sums)[pair] = total;
    largest = max(largest, max(magnitude_bits(two.x), magnitude_bits(two.y)));
  }
  if (n % 2 != 0 && first == 0) {
    sums[n - 1] = added(sums[n - 1], x[n - 1], per_unit);
    largest = max(largest, magnitude_bits(x[n - 1]));
  }
  largest = __reduce_max_sync(kFullMask, largest);
  if (threadIdx.x % 32 != 0) return;
  const double value = static_cast<double>(__uint_as_float(min(largest, kInfinity)));
  atomicMax(reinterpret_cast<unsigned long long*>(&fixed->largest),
            static_cast<unsigned long long>(__double_as_longlong(value)));
}

__global__ void __launch_bounds__(kThreads)
    read_multiples(const long long* __restrict__ sums, float* __restrict__ x, std::int64_t n,
                   const FixedPoint* __restrict__ fixed) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  const double unit = fixed->unit;
  const bool finite = isfinite(fixed->largest);
  const auto value = [&](long long sum) {
    return finite ? static_cast<float>(static_cast<double>(sum) * unit)
                  : __uint_as_float(0x7fc00000u);  // NaN
  };
  for (std::int64_t pair = first; pair < n / 2; pair += stride) {
    const longlong2 two = reinterpret_cast<const longlong2*>(sums)[pair];
    reinterpret_cast<float2*>(x)[pair] = make_float2(value(two.x), value(two.y));
  }
  if (n % 2 != 0 && first == 0) x[n - 1] = value(sums[n - 1]);
}

// --- Launchers -----------------------------------------------------------------------------------
LaunchShape shape_for(std::int64_t n, int multiprocessors) {
  const std::int64_t blocks = (n / 2 + kThreads) / kThreads;  // one at least
  const std::int64_t most = std::int64_t{multiprocessors} * kBlocksPerSm;
  return {.grid = static_cast<unsigned>(blocks < most ? blocks : most), .block = kThreads};
}

long long* aligned_sums(const Tensor& sums, const Tensor& x) {
  BERT_CHECK(reinterpret_cast<std::uintptr_t>(sums.raw()) % 16 == 0 &&
                 reinterpret_cast<std::uintptr_t>(x.raw()) % 8 == 0,
             "fixed-point sums must begin at a multiple of 16 bytes, what is added of 8");
  return reinterpret_cast<long long*>(sums.data<std::int64_t>());
}

}  // namespace

void CudaOps::add_fixed_point(const AddFixedPoint& op) {
  check(op, dtype());
  const std::int64_t n = op.x.numel();
  launch("add_multiples", add_multiples, shape_for(n, multiprocessors_), stream_,
         op.x.data<float>(), aligned_sums(op.sums, op.x), n, op.fixed);
}

void CudaOps::read_fixed_point(const ReadFixedPoint& op) {
  check(op, dtype());
  const std::int64_t n = op.x.numel();
  launch("read_multiples", read_multiples, shape_for(n, multiprocessors_), stream_,
         aligned_sums(op.sums, op.x), op.x.data<float>(), n, op.fixed);
}

}  // namespace bert::BERT_CUDA
