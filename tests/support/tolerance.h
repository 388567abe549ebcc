// How far another backend may be from the f64 reference: one table, by dtype and by how many terms
// are summed into an element.
#pragma once

#include <cstdint>

#include "runtime/dtype.h"

namespace bert::test {

// The largest allowed |value - reference| / (largest |reference| of the tensor).
//
// `terms`: how many rounded terms an element is the sum of (1: elementwise). Rounding errors of a
// sum are like a random walk: with n terms about sqrt(n) / 2 units of roundoff of the sum's own
// size.
double tolerance(DType dtype, std::int64_t terms);

}  // namespace bert::test
