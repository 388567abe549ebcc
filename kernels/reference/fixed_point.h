// Sums in fixed point: the same bits in any order of addends.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/ops.h"

namespace bert::reference {

template <typename Scalar>
void add_fixed_point(const AddFixedPoint& op) {
  const Scalar* x = op.x.data<Scalar>();
  auto* sums = op.sums.data<std::int64_t>();
  FixedPoint& fixed = *op.fixed;
  for (std::int64_t i = 0; i < op.x.numel(); ++i) {
    const auto value = static_cast<double>(x[i]);
    const double magnitude =
        std::isfinite(value) ? std::abs(value) : std::numeric_limits<double>::infinity();
    fixed.largest = std::max(fixed.largest, magnitude);
    const double units = value / fixed.unit;  // exact: a power of two
    if (!(magnitude / fixed.unit < 0x1p62)) continue;
    // Wraps round where the unit was too small: unsigned.
    sums[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(sums[i]) +
                                        static_cast<std::uint64_t>(std::llrint(units)));
  }
}

template <typename Scalar>
void read_fixed_point(const ReadFixedPoint& op) {
  Scalar* x = op.x.data<Scalar>();
  const bool finite = std::isfinite(op.fixed->largest);
  for (std::int64_t i = 0; i < op.x.numel(); ++i) {
    const double sum = static_cast<double>(op.sums.data<std::int64_t>()[i]) * op.fixed->unit;
    x[i] = finite ? static_cast<Scalar>(sum) : std::numeric_limits<Scalar>::quiet_NaN();
  }
}

}  // namespace bert::reference
