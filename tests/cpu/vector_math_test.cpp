// The error bounds that kernels/cpu/vector_math.h and activation.h state, over f32 arguments of
// every size.
#include "kernels/cpu/vector_math.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gtest/gtest.h>

#include "kernels/cpu/activation.h"

namespace bert::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <typename Function>
float scalar(Function f, float x) {
  return f(splat(x))[kLanes - 1];
}

// Calls visit(x, f(x)) for every finite f32 whose bits are a multiple of a prime: millions of
// arguments, spread evenly over the exponents.
template <typename Function, typename Visit>
void for_finite_arguments(Function f, Visit visit) {
  constexpr std::uint64_t kStride = 1009;
  for (std::uint64_t first = 0; first < (1ull << 32); first += kStride * kLanes) {
    F32 x{};
    for (int i = 0; i < kLanes; ++i) {
      x[i] = bert::cpu::bit_cast<float>(
          static_cast<std::uint32_t>(first + kStride * static_cast<std::uint64_t>(i)));
    }
    const F32 y = f(x);
    for (int i = 0; i < kLanes; ++i) {
      if (std::isfinite(x[i])) visit(x[i], y[i]);
    }
  }
}

// The largest of `error(x, y)` and where it is.
struct Worst {
  double error = 0.0;
  float x = 0.0f, y = 0.0f;
  void take(double e, float at, float value) {
    if (!(e <= error)) {
      error = e;
      x = at;
      y = value;
    }
  }
};

#define EXPECT_WORST_BELOW(worst, bound) \
  EXPECT_LT((worst).error, bound) << "at x = " << (worst).x << ", where it is " << (worst).y

double normal_cdf_exact(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double normal_density_exact(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2.0 * M_PI); }

TEST(VectorMath, ExpIsWithinItsBound) {
  Worst relative, tiny;
  for_finite_arguments(
      [](F32 x) { return exp(x); },
      [&](float x, float y) {
        const double exact = std::exp(static_cast<double>(x));
        if (exact > static_cast<double>(std::numeric_limits<float>::max())) {
          if (x > 88.73f) tiny.take(y == kInfinity ? 0.0 : 1.0, x, y);
        } else if (exact >= static_cast<double>(std::numeric_limits<float>::min())) {
          relative.take(std::abs(y - exact) / exact, x, y);
        } else {
          tiny.take(std::abs(y - exact), x, y);
        }
      });
  EXPECT_WORST_BELOW(relative, 2e-7);
  EXPECT_WORST_BELOW(tiny, 3e-45);
  EXPECT_EQ(scalar([](F32 x) { return exp(x); }, -kInfinity), 0.0f);
  EXPECT_EQ(scalar([](F32 x) { return exp(x); }, kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(scalar([](F32 x) { return exp(x); }, kNaN)));
}

TEST(VectorMath, ExpOfNonpositiveIsWithinItsBound) {
  const auto f = [](F32 x) { return exp_nonpositive(x); };
  Worst relative, below;
  for_finite_arguments(f, [&](float x, float y) {
    if (x > 1e-3f) return;
    const double exact = std::exp(static_cast<double>(x));
    if (x >= -87.0f) {
      relative.take(std::abs(y - exact) / exact, x, y);
    } else {
      below.take(y, x, y);
    }
  });
  EXPECT_WORST_BELOW(relative, 2e-7);
  EXPECT_EQ(below.error, 0.0) << "at x = " << below.x;
  EXPECT_EQ(scalar(f, -kInfinity), 0.0f);
  EXPECT_EQ(scalar(f, 0.0f), 1.0f);
  EXPECT_TRUE(std::isnan(scalar(f, kNaN)));
}

TEST(VectorMath, TanhIsWithinItsBound) {
  const auto f = [](F32 x) { return tanh(x); };
  Worst relative;
  for_finite_arguments(f, [&](float x, float y) {
    const double exact = std::tanh(static_cast<double>(x));
    if (std::abs(x) < 1e-30f) return relative.take(y == x ? 0.0 : 1.0, x, y);
    relative.take(std::abs((y - exact) / exact), x, y);
  });
  EXPECT_WORST_BELOW(relative, 3e-7);
  EXPECT_EQ(scalar(f, kInfinity), 1.0f);
  EXPECT_EQ(scalar(f, -kInfinity), -1.0f);
  EXPECT_TRUE(std::isnan(scalar(f, kNaN)));
}

TEST(VectorMath, NormalDistributionIsWithinItsBounds) {
  Worst absolute, relative, density_error;
  for_finite_arguments(
      [](F32 x) {
        F32 density;
        return normal_cdf(x, density);
      },
      [&](float x, float y) {
        const double exact = normal_cdf_exact(x);
        absolute.take(std::abs(y - exact), x, y);
        if (x > -5.0f) relative.take(std::abs(y - exact) / exact, x, y);
      });
  for_finite_arguments(
      [](F32 x) {
        F32 density;
        normal_cdf(x, density);
        return density;
      },
      [&](float x, float y) { density_error.take(std::abs(y - normal_density_exact(x)), x, y); });
  EXPECT_WORST_BELOW(absolute, 3e-7);
  EXPECT_WORST_BELOW(relative, 1e-6);
  EXPECT_WORST_BELOW(density_error, 1e-7);
  F32 density;
  EXPECT_TRUE(std::isnan(normal_cdf(splat(kNaN), density)[0]));
  EXPECT_TRUE(std::isnan(density[0]));
}

// An activation, its derivative, and the same in f64.
struct Exact {
  double value, derivative;
};
Exact exact_activation(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu:
      return {x * normal_cdf_exact(x), normal_cdf_exact(x) + x * normal_density_exact(x)};
    case Activation::gelu_new: {
      const double k = std::sqrt(2.0 / M_PI);
      const double t = std::tanh(k * (x + 0.044715 * x * x * x));
      return {0.5 * x * (1.0 + t),
              0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * k * (1.0 + 3.0 * 0.044715 * x * x)};
    }
    case Activation::tanh:
      return {std::tanh(x), 1.0 - std::tanh(x) * std::tanh(x)};
    case Activation::none:
      return {x, 1.0};
  }
  return {};
}

class ActivationTest : public ::testing::TestWithParam<Activation> {};

TEST_P(ActivationTest, IsWithinItsBounds) {
  with_activation(GetParam(), [](auto constant) {
    constexpr Activation kActivation = decltype(constant)::value;
    Worst value, derivative;
    for_finite_arguments([](F32 x) { return activate<kActivation>(x); },
                         [&](float x, float y) {
                           if (std::abs(x) > 1e12f) return;  // x^3 is beyond f32
                           value.take(std::abs(y - exact_activation(kActivation, x).value) /
                                          std::max(1.0, std::abs(static_cast<double>(x))),
                                      x, y);
                         });
    for_finite_arguments([](F32 x) { return activation_derivative<kActivation>(x); },
                         [&](float x, float y) {
                           if (std::abs(x) > 1e12f) return;
                           derivative.take(
                               std::abs(y - exact_activation(kActivation, x).derivative), x, y);
                         });
    EXPECT_WORST_BELOW(value, 4e-7);
    EXPECT_WORST_BELOW(derivative, 4e-7);
    EXPECT_TRUE(std::isnan(activate<kActivation>(splat(kNaN))[0]));
    if (kActivation != Activation::none) {
      EXPECT_TRUE(std::isnan(activation_derivative<kActivation>(splat(kNaN))[0]));
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, ActivationTest,
                         ::testing::Values(Activation::none, Activation::gelu, Activation::gelu_new,
                                           Activation::tanh),
                         [](const auto& param_info) {
                           switch (param_info.param) {
                             case Activation::gelu:
                               return "gelu";
                             case Activation::gelu_new:
                               return "gelu_new";
                             case Activation::tanh:
                               return "tanh";
                             default:
                               return "none";
                           }
                         });

}  // namespace
}  // namespace bert::cpu
