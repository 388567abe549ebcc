#include "tests/support/tolerance.h"

#include <cmath>

#include "runtime/error.h"

namespace bert::test {
namespace {

struct Precision {
  double roundoff;  // half a unit in the last place, relative
  double fixed;     // roundoffs allowed to any element
  double per_root;  // roundoffs allowed per sqrt(terms)
};

Precision precision_of(DType dtype) {
  switch (dtype) {
    // Other orders of the same sums. 2: four times the random walk of a sum, for the worst of ten
    // thousand elements. 4: erf, exp and tanh of two libraries differ by 1 unit, which the formulas
    // of GELU and softmax amplify by 2 to 4.
    case DType::f64:
      return {0x1p-53, 4.0, 2.0};
    // 2: as above. 8: vectorised exp, erf and tanh within 2 units; the saved statistics (mean,
    // rstd, lse) that backward reads are rounded to f32 too. Seen so far: at most 0.4 of what is
    // allowed.
    case DType::f32:
      return {0x1p-24, 8.0, 2.0};
    // Eight significant bits, so half a unit is 2^-8. 1: the output's own rounding. 2: what was
    // rounded on the way: a saved activation that backward reads, or the terms of a sum (attention
    // weights, GELU's output), whose roundings are independent and do not grow with their number.
    // Sums themselves are f32: 2 of its roundoffs per root, 2^-15 of these.
    case DType::bf16:
      return {0x1p-8, 3.0, 0x1p-15};
    // Results of products whose operands were rounded to 8 bits, the coarser of the two to e4m3 or
    // e5m2: half a unit of 4 or 3 significant bits. In the root mean square, rounding costs a
    // number 0.4 of that and a term of two numbers 0.6; the errors are independent, so they cost a
    // sum 0.6 of its own root mean square, whatever its length. The worst of ten thousand errors
    // lies some four times beyond; but the tensor's largest element, by which errors are measured,
    // lies three to four times beyond its elements too. That makes 0.6 to 0.8; seen are 0.44 to
    // 0.76, the most after two products in a row.
    case DType::e4m3:
      return {0x1p-4, 1.25, 0.0};
    case DType::e5m2:
      return {0x1p-3, 1.25, 0.0};
    default:
      throw_runtime_error("no tolerance for dtype {}", dtype_name(dtype));
  }
}

}  // namespace

double tolerance(DType dtype, std::int64_t terms) {
  const Precision p = precision_of(dtype);
  return p.roundoff * (p.fixed + p.per_root * std::sqrt(static_cast<double>(terms)));
}

}  // namespace bert::test
