#include "train/checkpoint/loss_monitor.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace bert {
namespace {

// Losses around 5 that differ by a fifth or so.
double loss_of(std::int64_t step) { return 5.0 + 0.2 * std::sin(static_cast<double>(step * step)); }

TEST(LossMonitorTest, KnowsASpikeFromNoise) {
  LossMonitor monitor(6.0);
  for (std::int64_t step = 1; step <= 300; ++step) {
    EXPECT_LT(loss_of(step), monitor.limit(step, 0)) << step;
    monitor.add(step, 0, loss_of(step));
  }
  const double limit = monitor.limit(301, 0);
  EXPECT_GT(limit, 5.5);
  EXPECT_LT(limit, 6.5);
  // A spike that was accepted (without a limit it is) does not hide the next one like it.
  monitor.add(301, 0, 6.5);
  monitor.add(302, 0, loss_of(302));
  EXPECT_LT(monitor.limit(304, 0), 6.5);
}

TEST(LossMonitorTest, SaysNothingAtFirstOrWithoutAScore) {
  LossMonitor monitor(1.0), never(0.0);
  for (std::int64_t step = 1; step <= 51; ++step) {
    EXPECT_TRUE(std::isinf(monitor.limit(step, 0))) << step;
    for (LossMonitor* one : {&monitor, &never}) one->add(step, 0, loss_of(step));
  }
  EXPECT_FALSE(std::isinf(monitor.limit(53, 0)));  // 51 losses are taken in
  for (std::int64_t step = 52; step <= 400; ++step) {
    EXPECT_TRUE(std::isinf(never.limit(step, 0)));
    never.add(step, 0, loss_of(step));
  }
}

// Losses that hardly differ: the smallest change is none.
TEST(LossMonitorTest, NeedsASizeableChange) {
  LossMonitor monitor(10.0);
  for (std::int64_t step = 1; step <= 100; ++step) monitor.add(step, 0, 2.0);
  EXPECT_NEAR(monitor.limit(102, 0), 2.2, 1e-12);
}

// A loss that falls is no reason to call the next one a spike.
TEST(LossMonitorTest, FollowsAFallingLoss) {
  LossMonitor monitor(6.0);
  for (std::int64_t step = 1; step <= 3000; ++step) {
    const double loss = 2.0 + 8.0 * std::exp(-static_cast<double>(step) / 300.0);
    EXPECT_LT(loss, monitor.limit(step, 0)) << step;
    monitor.add(step, 0, loss);
  }
  EXPECT_LT(monitor.limit(3001, 0), 2.5);
}

// On a CPU a loss is known before the next step is queued, on a GPU one step later; a resumed run
// starts from what a checkpoint holds. The limits are the same to the bit.
TEST(LossMonitorTest, LimitsDoNotDependOnWhenALossIsKnown) {
  LossMonitor cpu(3.0), gpu(3.0), resumed(3.0);
  for (std::int64_t step = 1; step <= 200; ++step) {
    const double limit = cpu.limit(step, 0);
    EXPECT_EQ(gpu.limit(step, 0), limit);
    EXPECT_EQ(resumed.limit(step, 0), limit);
    if (step > 1) gpu.add(step - 1, 0, loss_of(step - 1));
    cpu.add(step, 0, loss_of(step));
    resumed.add(step, 0, loss_of(step));
    LossMonitor fresh(3.0);
    fresh.set_statistics(resumed.statistics());
    resumed = fresh;
  }
}

// Losses of sequences of other lengths say nothing; the last of a phase may be known when the next
// has begun.
TEST(LossMonitorTest, EachPhaseHasItsOwn) {
  LossMonitor monitor(3.0);
  for (std::int64_t step = 1; step <= 100; ++step) monitor.add(step, 0, loss_of(step));
  EXPECT_FALSE(std::isinf(monitor.limit(102, 0)));
  EXPECT_TRUE(std::isinf(monitor.limit(102, 101)));
  monitor.add(101, 0, loss_of(101));
  for (std::int64_t step = 102; step <= 160; ++step) {
    if (step <= 152) {
      EXPECT_TRUE(std::isinf(monitor.limit(step, 101))) << step;
    }
    monitor.add(step, 101, 9.0);
  }
  EXPECT_NEAR(monitor.limit(162, 101), 9.0 * 1.03, 1e-9);
}

}  // namespace
}  // namespace bert
