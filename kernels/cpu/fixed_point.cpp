// Sums in fixed point: 20 bytes an element and a conversion to add, 12 to read.
#include <cmath>
#include <limits>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"

namespace bert::cpu {
namespace {

constexpr std::uint32_t kInfinity = 0x7F800000;  // the bits of it; those of NaN are larger

// Of the |x|, the largest bits: they order as the numbers do.
std::uint32_t add_block(const float* x, std::int64_t* sums, std::int64_t n, double per_unit) {
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFF;
    largest = bits > largest ? bits : largest;
    const double units = static_cast<double>(x[i]) * per_unit;
    const bool fits = std::abs(units) < 0x1p62;  // NaN does not
    // Wraps round where the unit was too small: unsigned.
    const auto whole = static_cast<std::uint64_t>(std::llrint(fits ? units : 0.0));
    sums[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(sums[i]) + whole);
  }
  return largest;
}

}  // namespace

void CpuOpsBase::add_fixed_point(const AddFixedPoint& op) {
  check(op, dtype());
  const float* x = op.x.data<float>();
  auto* sums = op.sums.data<std::int64_t>();
  const double per_unit = 1.0 / op.fixed->unit;
  auto* maxima = scratch_.reserve_as<std::uint32_t>(team_.parts);
  on_parts(team_, [&](int part) {
    const Range range = share(op.x.numel(), part, team_.parts, 16);
    maxima[part] =
        add_block(x + range.begin, sums + range.begin, range.end - range.begin, per_unit);
  });
  for (int part = 0; part < team_.parts; ++part) {
    const double largest = maxima[part] >= kInfinity
                               ? std::numeric_limits<double>::infinity()
                               : static_cast<double>(bit_cast<float>(maxima[part]));
    if (largest > op.fixed->largest) op.fixed->largest = largest;
  }
}

void CpuOpsBase::read_fixed_point(const ReadFixedPoint& op) {
  check(op, dtype());
  const auto* sums = op.sums.data<std::int64_t>();
  float* x = op.x.data<float>();
  // A sum of anything and NaN is NaN.
  const double poison =
      std::isfinite(op.fixed->largest) ? 0.0 : std::numeric_limits<double>::quiet_NaN();
  on_parts(team_, [&](int part) {
    const Range range = share(op.x.numel(), part, team_.parts, 16);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      x[i] = static_cast<float>(static_cast<double>(sums[i]) * op.fixed->unit + poison);
    }
  });
}

}  // namespace bert::cpu
