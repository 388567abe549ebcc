// Sums in fixed point on every backend: closed forms, and the same bits in any order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/device_memory.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class FixedPointOnBackend : public ::testing::TestWithParam<std::size_t> {
 protected:
  struct Result {
    std::vector<double> sums, read;  // sums: of so few units that f64 holds them
    FixedPoint fixed;
  };
  // The sum of `addends`, all of one size, in this order.
  Result add(const std::vector<std::vector<double>>& addends, double unit, double largest = 0.0) {
    Device& device = *backend_.device;
    const auto n = static_cast<std::int64_t>(addends.front().size());
    const DeviceTensor sums(device, DType::i64, {n}, std::vector<double>(addends.front().size()));
    const DeviceStruct<FixedPoint> fixed(device, {.unit = unit, .largest = largest});
    for (const std::vector<double>& values : addends) {
      const DeviceTensor x(device, statistics_, {n}, values);
      backend_.ops->add_fixed_point({.x = x, .sums = sums, .fixed = fixed.data()});
      EXPECT_TRUE(x.guards_intact());
    }
    const DeviceTensor read(device, statistics_, {n});
    backend_.ops->read_fixed_point({.sums = sums, .x = read, .fixed = fixed.data()});
    EXPECT_TRUE(sums.guards_intact() && read.guards_intact());
    return {sums.values(), read.values(), fixed.get()};
  }

  Backend backend_ = available_backends()[GetParam()].make();
  DType statistics_ = backend_.ops->statistics_dtype();
};

TEST_P(FixedPointOnBackend, RoundsToTheNearestMultipleTiesToEven) {
  const Result r = add({{0.25, 0.125, 0.375, -0.125, -0.375, 1.0, -0.3, 0.0, 0.1}}, 0.25);
  EXPECT_EQ(r.sums, (std::vector<double>{1, 0, 2, 0, -2, 4, -1, 0, 0}));
  EXPECT_EQ(r.read, (std::vector<double>{0.25, 0, 0.5, 0, -0.5, 1.0, -0.25, 0, 0}));
  EXPECT_EQ(r.fixed.unit, 0.25);
  EXPECT_EQ(r.fixed.largest, 1.0);
}

TEST_P(FixedPointOnBackend, KeepsTheLargestOfAll) {
  EXPECT_EQ(add({{0.5, -3.0, 1.0}, {2.0, 0.0, -1.5}}, 0.25).fixed.largest, 3.0);
  EXPECT_EQ(add({{0.5, -3.0, 1.0}}, 0.25, 4.0).fixed.largest, 4.0);
  EXPECT_EQ(add({{0.0, -0.0}}, 0.25).fixed.largest, 0.0);
}

// In f32 or f64 the same addends in another order give another sum.
TEST_P(FixedPointOnBackend, OrderDoesNotShow) {
  for (const std::int64_t size : {1, 2, 15, 4099}) {
    std::vector<std::vector<double>> addends;
    for (int i = 0; i < 13; ++i) {
      addends.push_back(random_values("addend " + std::to_string(i), size, std::ldexp(1.0, -i)));
    }
    const double unit = 0x1p-50;
    const Result forward = add(addends, unit);
    std::reverse(addends.begin(), addends.end());
    const Result backward = add(addends, unit);
    EXPECT_EQ(forward.sums, backward.sums);
    EXPECT_EQ(forward.read, backward.read);
    EXPECT_EQ(forward.fixed.largest, backward.fixed.largest);
    const double rounding = statistics_ == DType::f64 ? 0.0 : 0x1p-24;
    for (std::size_t i = 0; i < forward.read.size(); ++i) {
      double exact = 0.0;
      for (const std::vector<double>& values : addends) exact += values[i];
      EXPECT_NEAR(forward.read[i], exact, 13 * unit + rounding * std::abs(exact)) << i;
    }
  }
}

TEST_P(FixedPointOnBackend, ReadsLargeSums) {
  // 2^61 units twice, and 3 more: 2^62 + 3 rounds to 2^62 in f64.
  const Result r = add({{0x1p61, -0x1p61}, {0x1p61, -0x1p61}, {3.0, 1.0}}, 1.0);
  EXPECT_EQ(r.read, (std::vector<double>{0x1p62, -0x1p62}));
}

// A unit that is too small is told by the largest alone; nothing overflows on the way.
TEST_P(FixedPointOnBackend, WhatIsTooLargeIsLeftOut) {
  const double tiny = 0x1p-60;
  const Result r = add({{4.0, -4.0, 3.0, 1.0}, {0x1p100, 0.0, 3.0, 0.0}}, tiny);
  EXPECT_EQ(r.sums[0], 0.0);
  EXPECT_EQ(r.sums[1], 0.0);
  EXPECT_EQ(r.sums[3], 0x1p60);
  EXPECT_EQ(r.fixed.largest, 0x1p100);
}

TEST_P(FixedPointOnBackend, WhatIsNotFinitePoisonsAll) {
  for (const double bad : {kNaN, kInfinity, -kInfinity, -kNaN}) {
    std::vector<double> values(1000, 0.5);
    values[777] = bad;
    const Result r = add({std::vector<double>(1000, 1.0), values}, 0.25);
    EXPECT_EQ(r.fixed.largest, kInfinity) << bad;
    for (const double x : r.read) ASSERT_TRUE(std::isnan(x)) << bad;
    EXPECT_EQ(r.sums[777], 4.0);
    EXPECT_EQ(r.sums[776], 6.0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FixedPointOnBackend,
                         ::testing::Range(std::size_t{0}, available_backends().size()),
                         [](const auto& param_info) {
                           return available_backends()[param_info.param].name;
                         });

}  // namespace
}  // namespace bert::test
