// What the losses add up, by hand, on every backend. Their gradients are cases of the op tests.
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
    std::vector<double> logits, row_loss;  // after the op
  };
  // Adds `count` of the rows of `logits` [R, classes] to `before`.
  Result run(const std::vector<double>& logits, std::int64_t classes,
             const std::vector<double>& targets, std::int32_t count, bool gradient,
             const LossSums& before = {}, double loss_unit = 0.0,
             const std::vector<double>& weights = {}) {
    Device& device = *backend_.device;
    const auto rows = static_cast<std::int64_t>(targets.size());
    const DeviceTensor x(device, backend_.ops->dtype(), {rows, classes}, logits);
    const DeviceTensor t(device, DType::i32, {rows}, targets);
    const DeviceTensor w(device, statistics_, {rows}, weights.empty() ? targets : weights);
    const DeviceTensor row_loss(device, statistics_, {rows});
    const DeviceStruct<std::int32_t> rows_count(device, count);
    const DeviceStruct<double> scale(device, 1.0);
    const DeviceStruct<LossSums> sums(device, before);
    backend_.ops->cross_entropy({.logits = x,
                                 .classes = classes,
                                 .targets = t,
                                 .weights = weights.empty() ? Tensor() : w.tensor(),
                                 .rows = rows_count.data(),
                                 .loss_scale = gradient ? scale.data() : nullptr,
                                 .sums = sums.data(),
                                 .loss_unit = loss_unit,
                                 .row_loss = row_loss});
    return {sums.get(), x.values(), row_loss.values()};
  }

  // The same of squared_error: predictions [R, columns].
  Result run_squares(const std::vector<double>& predictions, std::int64_t columns,
                     const std::vector<double>& targets, std::int32_t count, bool gradient,
                     const LossSums& before = {}, double loss_unit = 0.0) {
    Device& device = *backend_.device;
    const auto rows = static_cast<std::int64_t>(targets.size());
    const DeviceTensor y(device, backend_.ops->dtype(), {rows, columns}, predictions);
    const DeviceTensor t(device, statistics_, {rows}, targets);
    const DeviceTensor row_loss(device, statistics_, {rows});
    const DeviceStruct<std::int32_t> rows_count(device, count);
    const DeviceStruct<double> scale(device, 1.0);
    const DeviceStruct<LossSums> sums(device, before);
    backend_.ops->squared_error({.predictions = y,
                                 .targets = t,
                                 .rows = rows_count.data(),
                                 .loss_scale = gradient ? scale.data() : nullptr,
                                 .sums = sums.data(),
                                 .loss_unit = loss_unit,
                                 .row_loss = row_loss});
    return {sums.get(), y.values(), row_loss.values()};
  }
  // And of span_cross_entropy: logits [T, 2], `sequences` of which begin at cu_seqlens [B + 1].
  Result run_spans(const std::vector<double>& logits, const std::vector<double>& cu_seqlens,
                   std::int32_t sequences, const std::vector<double>& targets, bool gradient,
                   const LossSums& before = {}, double loss_unit = 0.0) {
    Device& device = *backend_.device;
    const auto t = static_cast<std::int64_t>(logits.size() / 2);
    const auto b = static_cast<std::int64_t>(cu_seqlens.size() - 1);
    const DeviceTensor x(device, backend_.ops->dtype(), {t, 2}, logits);
    const DeviceTensor cu(device, DType::i32, {b + 1}, cu_seqlens);
    const DeviceTensor of_tokens(device, DType::i32, {t}), of_sequences(device, DType::u32, {b});
    const DeviceTensor spans(device, DType::i32, {2 * b}, targets);
    const DeviceTensor target_loss(device, statistics_, {b, 2});
    const DeviceStruct<std::int32_t> tokens(device, static_cast<std::int32_t>(cu_seqlens.back()));
    const DeviceStruct<std::int32_t> count(device, sequences);
    const DeviceStruct<double> scale(device, 1.0);
    const DeviceStruct<LossSums> sums(device, before);
    backend_.ops->span_cross_entropy({.logits = x,
                                      .tokens = {.position_ids = of_tokens,
                                                 .token_sequence = of_tokens,
                                                 .cu_seqlens = cu,
                                                 .sequence_index = of_sequences,
                                                 .num_tokens = tokens.data(),
                                                 .num_sequences = count.data(),
                                                 .max_seqlen = t},
                                      .targets = spans,
                                      .loss_scale = gradient ? scale.data() : nullptr,
                                      .sums = sums.data(),
                                      .loss_unit = loss_unit,
                                      .target_loss = target_loss});
    return {sums.get(), x.values(), target_loss.values()};
  }

  Backend backend_ = available_backends()[GetParam()].make();
  DType statistics_ = backend_.ops->statistics_dtype();
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

// Weights that are 0 or large are those of losses, never of counts; nor is one used where there is
// no loss.
TEST_P(LossSumsOnBackend, WeightsAreOfLossesNotOfCounts) {
  const double nan = std::nan("");
  const std::vector<double> logits = {0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1, 0};
  const std::vector<double> targets = {1, 2, kIgnoreIndex, 1, 1}, weights = {2, 0.5, nan, 0, nan};
  const Result plain = run(logits, 3, targets, 4, true);
  const Result r = run(logits, 3, targets, 4, true, {.loss = 10.0}, 0.0, weights);
  EXPECT_NEAR(r.sums.loss, 10.0 + 2.0 * plain.row_loss[0] + 0.5 * plain.row_loss[1],
              10 * precision_);
  EXPECT_EQ(r.sums.count, 3);
  EXPECT_EQ(r.sums.correct, 2);
  EXPECT_EQ(r.row_loss,
            (std::vector<double>{2.0 * plain.row_loss[0], 0.5 * plain.row_loss[1], 0.0, 0.0, 0.0}));
  for (std::size_t i = 0; i < logits.size(); ++i) {  // powers of two: exact
    const double weight = i / 3 == 0 ? 2.0 : i / 3 == 1 ? 0.5 : 0.0;
    EXPECT_EQ(r.logits[i], weight * plain.logits[i]) << i;
  }
}

TEST_P(LossSumsOnBackend, SquaredErrorsByHand) {
  const std::vector<double> predictions = {1.5, 9, -2, 9, 4, 9};
  for (const bool gradient : {false, true}) {
    const Result r = run_squares(predictions, 2, {1, 2, std::nan("")}, 2, gradient,
                                 {.loss = 10.0, .count = 4, .correct = 3});
    EXPECT_EQ(r.sums.loss, 10.0 + 0.25 + 16.0);
    EXPECT_EQ(r.sums.count, 6);
    EXPECT_EQ(r.sums.correct, 3);
    EXPECT_EQ(r.row_loss, (std::vector<double>{0.25, 16.0, 0.0}));
    EXPECT_EQ(r.logits, gradient ? (std::vector<double>{1, 0, -8, 0, 0, 0}) : predictions);
    EXPECT_EQ(run_squares(predictions, 2, {1, 2, 3}, 2, gradient, {.loss = 0.375}, 0.5).sums.loss,
              0.375 + 16.0);  // 16.25 is as near to 16.5: ties go to the even multiple
  }
}

TEST_P(LossSumsOnBackend, SpansByHand) {
  // Two of three sequences, of three and two tokens; the last token is nobody's.
  const std::vector<double> logits = {0, 0, 1, 0, 0, 0, 2, 0, 2, 1, 7, 7};
  const std::vector<double> cu = {0, 3, 5, 5}, targets = {1, 0, 1, kIgnoreIndex, 1 << 30, 1 << 30};
  const double all = std::log(std::exp(1.0) + 2.0);
  const std::vector<double> losses = {all - 1.0, std::log(3.0), std::log(2.0), 0.0, 0.0, 0.0};
  for (const bool gradient : {false, true}) {
    const Result r =
        run_spans(logits, cu, 2, targets, gradient, {.loss = 10.0, .count = 4, .correct = 3});
    EXPECT_NEAR(r.sums.loss, 10.0 + losses[0] + losses[1] + losses[2], 10 * precision_);
    EXPECT_EQ(r.sums.count, 7);    // 4 before, both of the first sequence, one of the second
    EXPECT_EQ(r.sums.correct, 5);  // 3 before, both of the first; the second of equals is wrong
    for (std::size_t i = 0; i < losses.size(); ++i) {
      EXPECT_NEAR(r.row_loss[i], losses[i], precision_) << i;
    }
    const double exact = r.sums.loss - 10.0;
    const Result rounded = run_spans(logits, cu, 2, targets, gradient, {.loss = 0.375}, 0x1p-4);
    EXPECT_EQ(rounded.sums.loss, 0.375 + std::nearbyint(exact * 16.0) / 16.0);
    EXPECT_NE(rounded.sums.loss, 0.375 + exact);
  }
  EXPECT_EQ(run_spans(logits, cu, 2, targets, false).logits, logits);
  const std::vector<double> gradient = run_spans(logits, cu, 2, targets, true).logits;
  EXPECT_NEAR(gradient[6], 0.5, precision_);  // the second sequence has a start only
  EXPECT_NEAR(gradient[8], -0.5, precision_);
  for (const std::size_t i : {7u, 9u, 10u, 11u}) EXPECT_EQ(gradient[i], 0.0) << i;
}

TEST_P(LossSumsOnBackend, NoSpanIsNoLoss) {
  const Result r = run_spans({1, 2, 3, 4}, {0, 0}, 0, {0, 0}, true);
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
