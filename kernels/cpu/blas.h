// Products on OpenBLAS, loaded at first use (libopenblas.so.0; package libopenblas0-openmp).
//
// It is loaded by hand for two reasons. A program that multiplies nothing does not pay for it. And
// OpenBLAS chooses its kernels by processor model when it is loaded: one older than the processor
// falls back to kernels for Haswell, half as fast as the machine. So OPENBLAS_CORETYPE=SKYLAKEX is
// set first where the processor has AVX-512, unless the user has set it.
#pragma once

#include <cstdint>
#include <string>

namespace bert::cpu {

class Blas {
 public:
  // The loaded library. RuntimeError naming the package when there is none.
  static const Blas& instance();

  // c = op(a) op(b) + beta * c, row-major, on `threads` threads; op(a) [m, k], op(b) [k, n].
  // Not called from inside a parallel region.
  void sgemm(int threads, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n,
             std::int64_t k, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
             float beta, float* c, std::int64_t ldc) const;

  // "OpenBLAS 0.3.21 ... USE_OPENMP ... SkylakeX", for logs.
  const std::string& description() const { return description_; }
  const std::string& core() const { return core_; }  // whose kernels are used: "SkylakeX"

 private:
  Blas();

  using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                         float alpha, const float* a, int lda, const float* b, int ldb, float beta,
                         float* c, int ldc);
  Sgemm sgemm_ = nullptr;
  void (*set_num_threads_)(int) = nullptr;
  int (*get_num_threads_)() = nullptr;
  bool openmp_ = false;
  std::string description_;
  std::string core_;
};

}  // namespace bert::cpu
