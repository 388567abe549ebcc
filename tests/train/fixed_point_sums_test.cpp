// FixedPointSums: the unit follows the gradients, no sum overflows, and ranks agree.
#include "train/step/fixed_point_sums.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/support/one_rank.h"
#include "tests/support/random_inputs.h"
#include "train/step/backend.h"

namespace bert {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A rank beside another whose largest |gradient| is `other`.
class WithAnother final : public OneRank {
 public:
  void all_reduce_max(std::vector<std::int64_t>& values) override {
    values[0] = std::max(values[0], std::bit_cast<std::int64_t>(other));
  }

  double other = 0.0;
};

class FixedPointSumsTest : public testing::Test {
 protected:
  static constexpr std::int64_t kSize = 100;
  using Gradients = std::vector<float>;

  static Gradients random(const std::string& name, double scale) {
    const std::vector<double> values = test::random_values(name, kSize, scale);
    return {values.begin(), values.end()};
  }
  void add(const Gradients& gradients) {
    std::copy(gradients.begin(), gradients.end(), memory_.begin());
    sums_.add();
  }
  // A step of one micro-batch.
  bool step(const Gradients& gradients) {
    sums_.begin(1);
    add(gradients);
    return sums_.settle();
  }
  Gradients read() {
    sums_.read();
    return memory_;
  }
  std::vector<std::int64_t> whole() const {
    const auto* sums = sums_.sums().data<std::int64_t>();
    return {sums, sums + kSize};
  }

  Backend backend_ = make_backend(Precision::fp32, 1);
  WithAnother communicator_;
  Gradients memory_ = Gradients(kSize);
  FixedPointSums sums_{*backend_.device, *backend_.ops, communicator_,
                       Tensor(memory_.data(), DType::f32, {kSize})};
};

TEST_F(FixedPointSumsTest, FollowTheGradients) {
  const Gradients some = random("a", 0.3);
  EXPECT_TRUE(step(some));  // not far from 1
  EXPECT_EQ(read(), some);  // 2^-54 of the largest: all 24 bits of all but very small ones
  const int exponent = sums_.exponent();
  EXPECT_TRUE(exponent == 0 || exponent == -1) << exponent;
  EXPECT_TRUE(step(random("b", 0.01)));
  EXPECT_LT(sums_.exponent(), exponent);
}

TEST_F(FixedPointSumsTest, GradientsThatGrewTooMuchAreAddedAgain) {
  Gradients some(kSize, 0.0f);
  some[3] = 0x1.fp7f;  // below 2^8
  EXPECT_TRUE(step(some));
  sums_.set_exponent(0);
  some[3] = 0x1p8f;
  EXPECT_FALSE(step(some));
  EXPECT_EQ(sums_.exponent(), 9);
  EXPECT_TRUE(step(some));
  EXPECT_EQ(read(), some);
  // So large that nothing of it was added.
  some[3] = -0x1p120f;
  EXPECT_FALSE(step(some));
  EXPECT_TRUE(step(some));
  EXPECT_EQ(read(), some);
}

TEST_F(FixedPointSumsTest, SoAreThoseThatShrank) {
  const Gradients some = random("a", 0x1p-12), tiny = random("b", 0x1p-40);
  EXPECT_TRUE(step(some));
  EXPECT_FALSE(step(tiny));
  EXPECT_TRUE(step(tiny));
  EXPECT_EQ(read(), tiny);
  // The smallest float that backends need not take for zero.
  Gradients least(kSize, 0.0f);
  least[0] = std::numeric_limits<float>::min();
  EXPECT_FALSE(step(least));
  EXPECT_TRUE(step(least));
  EXPECT_EQ(read(), least);
}

TEST_F(FixedPointSumsTest, TheOtherRanksCount) {
  Gradients some(kSize, 0.25f);
  communicator_.other = 0x1p20;
  EXPECT_FALSE(step(some));
  EXPECT_EQ(sums_.exponent(), 21);
  EXPECT_TRUE(step(some));
  // 0.25 in the units of both: 2^(21 + 8 - 62).
  EXPECT_EQ(whole(), std::vector<std::int64_t>(kSize, std::int64_t{1} << 31));
}

TEST_F(FixedPointSumsTest, NothingOfZerosAndNotFiniteOnesIsKept) {
  EXPECT_TRUE(step(random("a", 0.01)));
  const int exponent = sums_.exponent();
  EXPECT_TRUE(step(Gradients(kSize, 0.0f)));
  EXPECT_EQ(sums_.exponent(), exponent);
  EXPECT_EQ(read(), Gradients(kSize, 0.0f));
  Gradients bad = random("b", 0.01);
  bad[50] = -std::numeric_limits<float>::infinity();
  EXPECT_TRUE(step(bad));
  EXPECT_EQ(sums_.exponent(), exponent);
  for (const float x : read()) EXPECT_TRUE(std::isnan(x));
  // On the other rank alone: here, too.
  communicator_.other = kInfinity;
  EXPECT_TRUE(step(random("c", 0.01)));
  for (const float x : read()) EXPECT_TRUE(std::isnan(x));
  communicator_.other = 0.0;
  EXPECT_TRUE(step(random("d", 0.01)));
  for (const float x : read()) EXPECT_TRUE(std::isfinite(x));
}

TEST_F(FixedPointSumsTest, OrderAndRanksDoNotShow) {
  std::vector<Gradients> steps;
  for (int i = 0; i < 9; ++i) {
    steps.push_back(random("micro-batch " + std::to_string(i), std::ldexp(1.0, -2 * i)));
  }
  const auto sum_of = [&](std::size_t first, std::size_t end, bool backward) {
    sums_.set_exponent(2);
    sums_.begin(9);
    for (std::size_t i = first; i < end; ++i) add(steps[backward ? end - 1 - (i - first) : i]);
    return whole();
  };
  const std::vector<std::int64_t> all = sum_of(0, 9, false);
  EXPECT_EQ(sum_of(0, 9, true), all);
  for (std::size_t cut = 1; cut < 9; ++cut) {
    const std::vector<std::int64_t> a = sum_of(0, cut, false), b = sum_of(cut, 9, false);
    for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(a[i] + b[i], all[i]);
  }
  // As exact as promised, before the rounding to f32.
  for (std::size_t i = 0; i < all.size(); ++i) {
    double exact = 0.0;
    for (const Gradients& one : steps) exact += one[i];
    EXPECT_NEAR(std::ldexp(static_cast<double>(all[i]), 2 + 8 + 4 - 62), exact, 4.5 * 0x1p-48);
  }
}

// As many micro-batches as there may be, all as large as is accepted.
TEST_F(FixedPointSumsTest, NoSumOverflows) {
  for (const std::int64_t n : {1, 2, 3, 1000, 1024}) {
    sums_.set_exponent(0);
    sums_.begin(n);
    Gradients largest(kSize, std::nextafter(0x1p8f, 0.0f));
    largest[1] = -largest[0];
    for (std::int64_t i = 0; i < n; ++i) add(largest);
    EXPECT_TRUE(sums_.settle());
    const Gradients sum = read();
    const auto expected =
        static_cast<float>(static_cast<double>(largest[0]) * static_cast<double>(n));
    EXPECT_EQ(sum[0], expected) << n;
    EXPECT_EQ(sum[1], -expected) << n;
  }
}

}  // namespace
}  // namespace bert
