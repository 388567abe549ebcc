// The activations over their whole range, on every backend, against long double formulas of
// docs/derivations/gelu.md.
#include <algorithm>
#include <cmath>
#include <numbers>

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/device_memory.h"

namespace bert::test {
namespace {

using Real = long double;

Real value(Activation activation, Real x) {
  const Real u = std::sqrt(2 / std::numbers::pi_v<Real>) * (x + 0.044715L * x * x * x);
  switch (activation) {
    case Activation::gelu:
      return x / 2 * std::erfc(-x / std::numbers::sqrt2_v<Real>);
    case Activation::gelu_new:
      return x / (1 + std::exp(-2 * u));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::none:
      break;
  }
  return x;
}

Real derivative(Activation activation, Real x) {
  const Real u = std::sqrt(2 / std::numbers::pi_v<Real>) * (x + 0.044715L * x * x * x);
  const Real du = std::sqrt(2 / std::numbers::pi_v<Real>) * (1 + 3 * 0.044715L * x * x);
  switch (activation) {
    case Activation::gelu:
      return std::erfc(-x / std::numbers::sqrt2_v<Real>) / 2 +
             x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi_v<Real>);
    case Activation::gelu_new:
      return 1 / (1 + std::exp(-2 * u)) + x / 2 * du / (std::cosh(u) * std::cosh(u));
    case Activation::tanh:
      return 1 / (std::cosh(x) * std::cosh(x));
    case Activation::none:
      break;
  }
  return 1;
}

// Values exact in f32: a fine grid around zero, and far out, where exp over- and underflows.
std::vector<double> grid() {
  std::vector<double> x;
  for (int i = -1024; i <= 1024; ++i) x.push_back(i / 64.0);  // [-16, 16]
  for (const double far : {20.0, 40.0, 90.0, 1000.0, 10000.0, 1e-3, 0x1p-30, 0x1p-100}) {
    for (const double sign : {-1.0, 1.0}) x.push_back(static_cast<float>(sign * far));
  }
  return x;
}

class ActivationOnBackend : public ::testing::TestWithParam<std::tuple<std::size_t, Activation>> {};

TEST_P(ActivationOnBackend, IsRightEverywhere) {
  const Backend backend = available_backends()[std::get<0>(GetParam())].make();
  const Activation activation = std::get<1>(GetParam());
  Device& device = *backend.device;
  const DType real = backend.ops->dtype();
  std::vector<double> x = grid();
  const auto rows = static_cast<std::int64_t>(x.size());
  const DeviceStruct<std::int32_t> count(device, static_cast<std::int32_t>(rows));
  const DeviceTensor input(device, real, {rows, 1}, x);
  x = input.values();  // rounded to bf16, where that is what it is
  const DeviceTensor weight(device, real, {1, 1}, std::vector<double>{1.0});
  const DeviceTensor pre(device, real, {rows, 1}), y(device, real, {rows, 1});
  const DeviceTensor dx(device, real, {rows, 1});
  const DeviceTensor dy(device, real, {rows, 1}, std::vector<double>(x.size(), 1.0));
  backend.ops->linear_forward({.x = input,
                               .weight = {.master = weight, .compute = weight},
                               .activation = activation,
                               .rows = count.data(),
                               .pre_activation = pre,
                               .y = y});
  backend.ops->activation_backward(
      {.dy = dy, .activation = activation, .pre_activation = pre, .rows = count.data(), .dx = dx});
  const double precision = real == DType::f64 ? 1e-15 : 4e-7;
  const double rounding = real == DType::bf16 ? 0x1p-8 : 0.0;  // of the result, relative
  const std::vector<double> values = y.values(), derivatives = dx.values();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double allowed = precision * std::max(1.0, std::abs(x[i]));
    const auto expected = static_cast<double>(value(activation, x[i]));
    EXPECT_NEAR(values[i], expected, allowed + rounding * std::abs(expected)) << x[i];
    const auto slope = static_cast<double>(derivative(activation, x[i]));
    EXPECT_NEAR(derivatives[i], slope, 4 * allowed + rounding * std::abs(slope)) << x[i];
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, ActivationOnBackend,
    ::testing::Combine(::testing::Range(std::size_t{0}, available_backends().size()),
                       ::testing::Values(Activation::gelu, Activation::gelu_new, Activation::tanh)),
    [](const auto& param_info) {
      const Activation activation = std::get<1>(param_info.param);
      return available_backends()[std::get<0>(param_info.param)].name +
             (activation == Activation::gelu       ? "_gelu"
              : activation == Activation::gelu_new ? "_gelu_new"
                                                   : "_tanh");
    });

// gelu and gelu_new are two functions, at most 4.73e-4 apart.
TEST(Activation, TheTwoFormsOfGeluDiffer) {
  Real largest = 0, where = 0;
  for (int i = -8000; i <= 8000; ++i) {
    const Real x = i / 1000.0L;
    const Real difference = std::abs(value(Activation::gelu, x) - value(Activation::gelu_new, x));
    if (difference > largest) {
      largest = difference;
      where = std::abs(x);
    }
  }
  EXPECT_NEAR(static_cast<double>(largest), 4.73e-4, 1e-6);
  EXPECT_NEAR(static_cast<double>(where), 2.7, 0.1);
}

}  // namespace
}  // namespace bert::test
