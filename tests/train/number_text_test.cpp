// Numbers as people read them.
#include "train/logging/number_text.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace bert {
namespace {

const double kNan = std::nan("");

TEST(NumberText, Durations) {
  EXPECT_EQ(format_duration(0.4), "0s");
  EXPECT_EQ(format_duration(59.4), "59s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(245), "4m05s");
  EXPECT_EQ(format_duration(3600 * 3 + 60 * 7 + 5), "3h07m");
  EXPECT_EQ(format_duration(86400 * 2 + 3600 * 4), "2d04h");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "?");
}

TEST(NumberText, Rates) {
  EXPECT_EQ(format_rate(0), "0");
  EXPECT_EQ(format_rate(812.4), "812");
  EXPECT_EQ(format_rate(999.6), "1.0k");
  EXPECT_EQ(format_rate(8849), "8.8k");
  EXPECT_EQ(format_rate(99960), "100k");
  EXPECT_EQ(format_rate(1.25e6), "1.25M");
  EXPECT_EQ(format_rate(kNan), "?");
}

TEST(NumberText, Perplexities) {
  EXPECT_EQ(format_perplexity(0.0), "1.0");
  EXPECT_EQ(format_perplexity(std::log(57.3)), "57.3");
  EXPECT_EQ(format_perplexity(std::log(30522.0)), "30522");
  EXPECT_EQ(format_perplexity(std::log(1.23e6)), "1.2e+06");
  EXPECT_EQ(format_perplexity(kNan), "-");
  EXPECT_EQ(format_perplexity(1e6), "-");
}

TEST(NumberText, Sizes) {
  EXPECT_EQ(format_size(0), "0.0 MB");
  EXPECT_EQ(format_size(11'259'000), "11.3 MB");
  EXPECT_EQ(format_size(999'960'000), "1000.0 MB");
  EXPECT_EQ(format_size(22'841'000'000), "22.84 GB");
}

}  // namespace
}  // namespace bert
