#include "kernels/cpu/cpu_ops.h"

#include <new>

#include <omp.h>

#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace bert {

std::unique_ptr<Ops> make_cpu_ops(int threads) { return std::make_unique<cpu::CpuOps>(threads); }

namespace cpu {

CpuOps::CpuOps(int threads) : threads_(threads) {
  BERT_CHECK(threads >= 1, "{} threads", threads);
  // Work is divided among exactly so many threads; fewer would leave parts of it undone.
  omp_set_dynamic(0);
  if (omp_get_thread_limit() < threads) {
    throw_input_error("{} threads are asked for, OMP_THREAD_LIMIT allows {}", threads,
                      omp_get_thread_limit());
  }
  Blas::instance();  // a missing library is an error here, not in the first product
}

void* Scratch::reserve(std::size_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = (bytes + 63) / 64 * 64;
    data_.reset(std::aligned_alloc(64, bytes_));
    if (data_ == nullptr) {
      const std::size_t wanted = bytes_;
      bytes_ = 0;
      throw_runtime_error("out of memory: {} bytes asked for as scratch", wanted);
    }
  }
  return data_.get();
}

void CpuOps::zero_floats(float* x, std::int64_t n) {
  constexpr std::int64_t kGrain = 16384;  // below it, one thread is faster
  const int threads = n < 2 * kGrain ? 1 : threads_;
  on_threads(threads, [&](int thread) {
    const Range range = share(n, thread, threads, 16);
    std::memset(x + range.begin, 0, static_cast<std::size_t>(range.end - range.begin) * 4);
  });
}

void CpuOps::zero(const Tensor& x) {
  if (!x || x.numel() == 0) return;
  if (x.bytes() % 4 == 0) {
    zero_floats(static_cast<float*>(x.raw()), static_cast<std::int64_t>(x.bytes() / 4));
  } else {
    std::memset(x.raw(), 0, x.bytes());
  }
}

void CpuOps::zero_tail(const Tensor& x, std::int64_t count) {
  if (x && count < x.rows()) zero(x.slice(count, x.rows() - count));
}

float* CpuOps::per_thread(std::int64_t count) {
  return thread_scratch_.reserve_as<float>(round_up(count, 16) * threads_);
}

void CpuOps::add_partials(const float* partials, std::int64_t stride, std::int64_t n, float* into) {
  for_lanes(0, n, [&](std::int64_t c, auto lanes) {
    F32 total = load(partials + c, lanes);
    for (int thread = 1; thread < threads_; ++thread) {
      total += load(partials + thread * stride + c, lanes);
    }
    store(into + c, load(into + c, lanes) + total, lanes);
  });
}

}  // namespace cpu
}  // namespace bert
