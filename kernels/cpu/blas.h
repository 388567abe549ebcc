// Products on OpenBLAS, loaded at first use (libopenblas.so.0; package libopenblas0-openmp).
//
// It is loaded by hand for two reasons. A program that multiplies nothing does not pay for it. And
// OpenBLAS chooses its kernels by processor model when it is loaded: a release older than the
// processor may take kernels for Haswell, half as fast as the machine. So
// OPENBLAS_CORETYPE=SKYLAKEX is set first where the processor has AVX-512, unless the user has set
// the variable.
//
// OpenBLAS always works on one thread here. The blocks of a product are shared among our own
// threads (see `product`): the split then depends on nothing but sizes and parts, any build of the
// library will do, and the threads need not wait for one another inside a product.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/cpu/parallel.h"

namespace bert::cpu {

class Blas {
 public:
  // The loaded library. RuntimeError naming the package when there is none.
  static const Blas& instance();

  // c = op(a) op(b) + beta * c, row-major, on the calling thread; op(a) [m, k], op(b) [k, n].
  void sgemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
             const float* a, std::int64_t lda, const float* b, std::int64_t ldb, float beta,
             float* c, std::int64_t ldc) const;

  // "OpenBLAS 0.3.21 ... USE_OPENMP ... SkylakeX", for logs.
  const std::string& description() const { return description_; }
  const std::string& core() const { return core_; }  // whose kernels are used: "SkylakeX"

 private:
  Blas();

  using Sgemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k,
                         float alpha, const float* a, int lda, const float* b, int ldb, float beta,
                         float* c, int ldc);
  Sgemm sgemm_ = nullptr;
  bool openmp_ = false;
  std::string description_;
  std::string core_;
};

// The blocks that `parts` parts make of an [m, n] product: rows x columns = parts at most, with the
// least to read for each.
struct Grid {
  int rows = 1, columns = 1;
};
inline Grid product_grid(int parts, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr std::int64_t kWorthSharing = 64 * 64 * 64;  // below it, waking a thread costs more
  if (m * n * k <= kWorthSharing) return {};
  constexpr int kMaxCallers = 64;  // OpenBLAS has buffers for a fixed number of calls at a time
  if (parts > kMaxCallers) parts = kMaxCallers;
  Grid best;
  double least = 0.0;
  for (int rows = 1; rows <= parts; ++rows) {
    if (parts % rows != 0) continue;
    const int columns = parts / rows;
    const double read = static_cast<double>(m) / rows + static_cast<double>(n) / columns;
    if (rows == 1 || read < least) {
      best = {rows, columns};
      least = read;
    }
  }
  return best;
}

// c = op(a) op(b) + beta * c by `team`, dense and row-major (the leading dimensions are the row
// lengths of a, b and c). finish(rows, columns) is called for each block of c, once that is done,
// by the thread that did it. Not from inside a parallel region.
template <typename Finish>
void product(Team team, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n,
             std::int64_t k, const float* a, const float* b, float beta, float* c,
             Finish&& finish) {
  const Blas& blas = Blas::instance();
  const Grid grid = product_grid(team.parts, m, n, k);
  const std::int64_t lda = transpose_a ? m : k, ldb = transpose_b ? k : n;
  on_parts({grid.rows * grid.columns, team.threads}, [&](int part) {
    // 16: a whole cache line of c, and of whatever else lies like it, belongs to one part.
    const Range rows = share(m, part / grid.columns, grid.rows, 16);
    const Range columns = share(n, part % grid.columns, grid.columns, 16);
    if (rows.begin == rows.end || columns.begin == columns.end) return;
    blas.sgemm(transpose_a, transpose_b, rows.end - rows.begin, columns.end - columns.begin, k,
               a + rows.begin * (transpose_a ? 1 : lda), lda,
               b + columns.begin * (transpose_b ? ldb : 1), ldb, beta,
               c + rows.begin * n + columns.begin, n);
    finish(rows, columns);
  });
}
inline void product(Team team, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n,
                    std::int64_t k, const float* a, const float* b, float beta, float* c) {
  product(team, transpose_a, transpose_b, m, n, k, a, b, beta, c, [](Range, Range) {});
}

}  // namespace bert::cpu
