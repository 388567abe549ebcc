// What cross_entropy adds up, by hand, on every backend. Its gradient is a case of the op tests.
#include <cmath>

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/device_memory.h"

namespace bert::test {
namespace {

class LossSumsOnBackend : public ::testing::TestWithParam<std::size_t> {
 protected:
  struct Result {
    LossSums sums;
    std::vector<double> logits, row_loss;
  };
  // Adds `count` of the rows of `logits` [R, classes] to `before`.
  Result run(const std::vector<double>& logits, std::int64_t classes,
             const std::vector<double>& targets, std::int32_t count, bool gradient,
             const LossSums& before = {}, double loss_unit = 0.0) {
    Device& device = *backend_.device;
    const auto rows = static_cast<std::int64_t>(targets.size());
    const DeviceTensor x(device, backend_.ops->dtype(), {rows, classes}, logits);
    const DeviceTensor t(device, DType::i32, {rows}, targets);
    const DeviceTensor row_loss(device, backend_.ops->statistics_dtype(), {rows});
    const DeviceStruct<std::int32_t> rows_count(device, count);
    const DeviceStruct<double> scale(device, 1.0);
    const DeviceStruct<LossSums> sums(device, before);
    backend_.ops->cross_entropy({.logits = x,
                                 .classes = classes,
                                 .targets = t,
                                 .rows = rows_count.data(),
                                 .loss_scale = gradient ? scale.data() : nullptr,
                                 .sums = sums.data(),
                                 .loss_unit = loss_unit,
                                 .row_loss = row_loss});
    return {sums.get(), x.values(), row_loss.values()};
  }

  Backend backend_ = available_backends()[GetParam()].make();
  double precision_ = backend_.ops->dtype() == DType::f64 ? 1e-14 : 1e-6;
};

TEST_P(LossSumsOnBackend, ByHand) {
  // Of e + 2 parts the second class has e, the others 1; the last row does not count.
  const double all = std::log(std::exp(1.0) + 2.0);
  const std::vector<double> logits = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0};
  const Result r =
      run(logits, 3, {1, 2, kIgnoreIndex, 1}, 3, false, {.loss = 10.0, .count = 4, .correct = 3});
  EXPECT_NEAR(r.sums.loss, 10.0 + (all - 1.0) + all, 10 * precision_);
  EXPECT_EQ(r.sums.count, 6);    // 4 before, rows 0 and 1
  EXPECT_EQ(r.sums.correct, 4);  // 3 before, row 0
  EXPECT_NEAR(r.row_loss[0], all - 1.0, precision_);
  EXPECT_NEAR(r.row_loss[1], all, precision_);
  EXPECT_EQ(r.row_loss[2], 0.0);
}

TEST_P(LossSumsOnBackend, TheFirstOfEqualLogitsIsTheAnswer) {
  EXPECT_EQ(run({1, 1, 1, 0}, 4, {0}, 1, false).sums.correct, 1);
  EXPECT_EQ(run({1, 1, 1, 0}, 4, {1}, 1, false).sums.correct, 0);
  EXPECT_EQ(run(std::vector<double>(1001, -3.0), 1001, {0}, 1, false).sums.correct, 1);
  EXPECT_EQ(run(std::vector<double>(1001, -3.0), 1001, {1000}, 1, false).sums.correct, 0);
  std::vector<double> two_largest(40, 0.0);
  two_largest[18] = two_largest[20] = 1.0;
  EXPECT_EQ(run(two_largest, 40, {18}, 1, false).sums.correct, 1);
  EXPECT_EQ(run(two_largest, 40, {20}, 1, false).sums.correct, 0);
  EXPECT_EQ(run(two_largest, 40, {0}, 1, false).sums.correct, 0);
}

TEST_P(LossSumsOnBackend, GradientOrNotTheSumsAreTheSame) {
  const std::vector<double> logits = {3, -1, 0.5, 2, 2, 2.5};
  const Result without = run(logits, 3, {0, 1}, 2, false), with = run(logits, 3, {0, 1}, 2, true);
  EXPECT_EQ(without.sums.loss, with.sums.loss);
  EXPECT_EQ(without.sums.correct, with.sums.correct);
  EXPECT_EQ(without.logits, logits);
  EXPECT_NE(with.logits, logits);
}

// What was there before stays as it is; what is added is a multiple of the unit.
TEST_P(LossSumsOnBackend, AreRoundedToAUnit) {
  const std::vector<double> logits = {3, -1, 0.5, 2, 2, 2.5};
  const double exact = run(logits, 3, {0, 1}, 2, false).sums.loss;
  for (const bool gradient : {false, true}) {
    const Result r = run(logits, 3, {0, 1}, 2, gradient, {.loss = 0.375}, 0x1p-4);
    EXPECT_EQ(r.sums.loss, 0.375 + std::nearbyint(exact * 16.0) / 16.0);
    EXPECT_NE(r.sums.loss, 0.375 + exact);
    EXPECT_EQ(r.sums.count, 2);
  }
}

TEST_P(LossSumsOnBackend, LargeLogitsDoNotOverflow) {
  // e^1024 is beyond f64.
  const std::vector<double> logits = {1024, 1016, -1024, 0};
  const Result r = run(logits, 4, {0}, 1, true);
  EXPECT_NEAR(r.sums.loss, std::exp(-8.0), 1e-4);
  const Result wrong = run(logits, 4, {2}, 1, true);
  EXPECT_NEAR(wrong.sums.loss, 2048.0, 0.001);
  EXPECT_NEAR(wrong.logits[2], -1.0, precision_);
  EXPECT_NEAR(wrong.logits[0], 1.0, 1e-3);
}

TEST_P(LossSumsOnBackend, NoRowIsNoLoss) {
  const Result r = run({1, 2, 3, 4}, 2, {0, 1}, 0, true);
  EXPECT_EQ(r.sums.loss, 0.0);
  EXPECT_EQ(r.sums.count, 0);
  EXPECT_EQ(r.logits, std::vector<double>(4, 0.0));
}

INSTANTIATE_TEST_SUITE_P(All, LossSumsOnBackend,
                         ::testing::Range(std::size_t{0}, available_backends().size()),
                         [](const auto& param_info) {
                           return available_backends()[param_info.param].name;
                         });

}  // namespace
}  // namespace bert::test
