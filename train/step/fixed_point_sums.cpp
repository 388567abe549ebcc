#include "train/step/fixed_point_sums.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace bert {
namespace {

// The least e with x < 2^e, and none so small that units leave the range of f64.
int exponent_above(double x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  return std::max(exponent, -900);
}

}  // namespace

FixedPointSums::FixedPointSums(Device& device, Ops& ops, Communicator& communicator,
                               const Tensor& gradients)
    : device_(device),
      ops_(ops),
      communicator_(communicator),
      gradients_(gradients),
      sum_memory_(device, static_cast<std::size_t>(gradients.numel()) * sizeof(std::int64_t)),
      fixed_memory_(device, sizeof(FixedPoint)),
      on_device_(static_cast<FixedPoint*>(fixed_memory_.data())) {
  sums_ = Tensor(sum_memory_.data(), DType::i64, {gradients.numel()});
}

void FixedPointSums::upload() { device_.copy_from_host(on_device_, &fixed_, sizeof fixed_); }

void FixedPointSums::begin(std::int64_t micro_batches) {
  const int bits = std::bit_width(static_cast<std::uint64_t>(micro_batches - 1));
  fixed_ = {.unit = std::ldexp(1.0, exponent_ + kAbove + bits - 62), .largest = 0.0};
  upload();
  ops_.zero(sums_);
}

void FixedPointSums::add() {
  ops_.add_fixed_point({.x = gradients_, .sums = sums_, .fixed = on_device_});
}

bool FixedPointSums::settle() {
  device_.copy_to_host(&fixed_, on_device_, sizeof fixed_);
  // The bits of what is not negative order as the numbers do.
  std::vector<std::int64_t> largest{std::bit_cast<std::int64_t>(fixed_.largest)};
  communicator_.all_reduce_max(largest);
  fixed_.largest = std::bit_cast<double>(largest[0]);
  upload();
  if (fixed_.largest == 0.0 || !std::isfinite(fixed_.largest)) return true;
  const int found = exponent_above(fixed_.largest);
  const bool fits = found <= exponent_ + kAbove && found >= exponent_ - kBelow;
  exponent_ = found;
  return fits;
}

void FixedPointSums::read() {
  ops_.read_fixed_point({.sums = sums_, .x = gradients_, .fixed = on_device_});
}

}  // namespace bert
