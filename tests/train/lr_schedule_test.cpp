#include "train/config/lr_schedule.h"

#include <gtest/gtest.h>

namespace bert {
namespace {

TEST(LrSchedule, Linear) {
  const LrSchedule schedule{
      .peak = 8e-4, .warmup_steps = 4, .max_steps = 12, .decay = Decay::linear};
  // Hand-computed: up in quarters, down in eighths.
  const double expected[] = {0.0,  2e-4, 4e-4, 6e-4, 8e-4, 7e-4, 6e-4,
                             5e-4, 4e-4, 3e-4, 2e-4, 1e-4, 0.0};
  for (int step = 0; step <= 12; ++step) {
    EXPECT_NEAR(schedule.at(step), expected[step], 1e-18) << step;
  }
  EXPECT_EQ(schedule.at(100), 0.0);
}

TEST(LrSchedule, GoogleDecaysFromStepZeroAndDropsWhereWarmUpEnds) {
  const LrSchedule schedule{
      .peak = 1e-3, .warmup_steps = 4, .max_steps = 10, .decay = Decay::google};
  const double expected[] = {0.0, 2.5e-4, 5e-4, 7.5e-4, 6e-4, 5e-4, 4e-4, 3e-4, 2e-4, 1e-4, 0.0};
  for (int step = 0; step <= 10; ++step) {
    EXPECT_NEAR(schedule.at(step), expected[step], 1e-18) << step;
  }
}

TEST(LrSchedule, Constant) {
  const LrSchedule schedule{
      .peak = 3e-4, .warmup_steps = 2, .max_steps = 5, .decay = Decay::constant};
  EXPECT_EQ(schedule.at(0), 0.0);
  EXPECT_NEAR(schedule.at(1), 1.5e-4, 1e-18);
  for (int step : {2, 3, 4, 5, 50}) EXPECT_EQ(schedule.at(step), 3e-4) << step;
}

TEST(LrSchedule, WithoutWarmUpTheFirstStepHasTheFullRate) {
  for (const Decay decay : {Decay::linear, Decay::google, Decay::constant}) {
    const LrSchedule schedule{.peak = 5e-4, .warmup_steps = 0, .max_steps = 10, .decay = decay};
    EXPECT_EQ(schedule.at(0), 5e-4);
  }
  // Nothing but warm-up.
  const LrSchedule all{.peak = 1.0, .warmup_steps = 4, .max_steps = 4, .decay = Decay::linear};
  EXPECT_EQ(all.at(3), 0.75);
  EXPECT_EQ(all.at(4), 0.0);
}

}  // namespace
}  // namespace bert
