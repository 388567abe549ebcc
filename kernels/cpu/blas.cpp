#include "kernels/cpu/blas.h"

#include <cstdlib>

#include <dlfcn.h>
#include <omp.h>

#include "runtime/error.h"

namespace bert::cpu {
namespace {

// Where Debian and Ubuntu put the OpenMP build, whatever the default alternative is; then whatever
// the dynamic linker finds.
const char* const kCandidates[] = {
#if defined(__x86_64__)
    "/usr/lib/x86_64-linux-gnu/openblas-openmp/libopenblas.so.0",
#elif defined(__aarch64__)
    "/usr/lib/aarch64-linux-gnu/openblas-openmp/libopenblas.so.0",
#endif
    "libopenblas.so.0",
    "libopenblas.so",
};

constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;  // of cblas.h

// OpenBLAS reads the variable in its constructor, that is: inside dlopen.
void choose_core_type() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512cd")) {
    setenv("OPENBLAS_CORETYPE", "SKYLAKEX", 0);
  }
#endif
}

template <typename Function>
void find(void* library, const char* name, Function& function) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    throw_runtime_error(
        "OpenBLAS has no {}: the libopenblas found is not usable; install libopenblas0-openmp",
        name);
  }
  function = reinterpret_cast<Function>(symbol);
}

}  // namespace

const Blas& Blas::instance() {
  static const Blas blas;
  return blas;
}

Blas::Blas() {
  choose_core_type();
  void* library = nullptr;  // stays loaded to the end of the program
  std::string reason;
  for (const char* candidate : kCandidates) {
    library = dlopen(candidate, RTLD_NOW | RTLD_LOCAL);
    if (library != nullptr) break;
    reason = dlerror();
  }
  if (library == nullptr) {
    throw_runtime_error(
        "OpenBLAS was not found ({}); matrix products on a CPU need it: install the package "
        "libopenblas0-openmp",
        reason);
  }
  const char* (*get_config)() = nullptr;
  const char* (*get_corename)() = nullptr;
  void (*set_num_threads)(int) = nullptr;
  find(library, "cblas_sgemm", sgemm_);
  find(library, "openblas_set_num_threads", set_num_threads);
  find(library, "openblas_get_config", get_config);
  find(library, "openblas_get_corename", get_corename);
  description_ = get_config();
  core_ = get_corename();
  openmp_ = description_.find("USE_OPENMP") != std::string::npos;
  set_num_threads(1);
}

void Blas::sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                 const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
                 float* c, std::int64_t ldc) const {
  // Built for OpenMP, the library works on omp_get_max_threads() threads, a setting of the calling
  // thread, unless it is inside a parallel region.
  if (openmp_ && !omp_in_parallel() && omp_get_max_threads() != 1) omp_set_num_threads(1);
  sgemm_(kRowMajor, transpose_a ? kTranspose : kNoTranspose,
         transpose_b ? kTranspose : kNoTranspose, static_cast<int>(m), static_cast<int>(n),
         static_cast<int>(k), 1.0f, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c,
         static_cast<int>(ldc));
}

}  // namespace bert::cpu
