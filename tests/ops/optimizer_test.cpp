// gradient_norm and adamw on every backend, against closed forms.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/device_memory.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class Optimizer : public ::testing::TestWithParam<std::size_t> {
 protected:
  GradientNorm norm_of(const std::vector<double>& gradients, double max_norm) {
    const DeviceTensor g(*backend_.device, statistics_,
                         {static_cast<std::int64_t>(gradients.size())}, gradients);
    const DeviceStruct<GradientNorm> result(*backend_.device, {});
    backend_.ops->gradient_norm({.gradients = g, .max_norm = max_norm, .result = result.data()});
    EXPECT_EQ(g.values().size(), gradients.size());
    EXPECT_TRUE(g.guards_intact());
    return result.get();
  }

  Backend backend_ = available_backends()[GetParam()].make();
  DType statistics_ = backend_.ops->statistics_dtype();
  // Relative error of a few operations on parameters.
  double precision_ = statistics_ == DType::f64 ? 1e-14 : 4e-6;
};

TEST_P(Optimizer, NormOfThreeAndFour) {
  GradientNorm norm = norm_of({3.0, 0.0, -4.0}, 0.0);
  EXPECT_DOUBLE_EQ(norm.norm, 5.0);
  EXPECT_EQ(norm.scale, 1.0);  // no clipping wanted
  EXPECT_EQ(norm.nonfinite, 0);
  norm = norm_of({3.0, 0.0, -4.0}, 1.0);
  EXPECT_DOUBLE_EQ(norm.norm, 5.0);  // before clipping
  EXPECT_DOUBLE_EQ(norm.scale, 0.2);
  EXPECT_EQ(norm_of({3.0, 0.0, -4.0}, 6.0).scale, 1.0);  // short enough
}

TEST_P(Optimizer, NormOfNothing) {
  const GradientNorm norm = norm_of(std::vector<double>(100, 0.0), 1.0);
  EXPECT_EQ(norm.norm, 0.0);
  EXPECT_EQ(norm.scale, 1.0);
  EXPECT_EQ(norm.nonfinite, 0);
}

TEST_P(Optimizer, NormIsSummedInDouble) {
  for (const std::int64_t size : {1, 63, 64, 4096, 100003}) {
    const std::vector<double> gradients = random_values("norm", size, 1e-3);
    long double sum = 0.0L;
    for (const double g : gradients) sum += static_cast<long double>(g) * g;
    const double expected = static_cast<double>(std::sqrt(sum));
    EXPECT_NEAR(norm_of(gradients, 0.0).norm, expected, 1e-13 * expected) << size;
  }
  // The squares overflow and underflow f32.
  EXPECT_NEAR(norm_of(std::vector<double>(400, 0x1p100), 0.0).norm, 0x1p100 * 20, 0x1p60);
  EXPECT_NEAR(norm_of(std::vector<double>(400, 0x1p-100), 0.0).norm, 0x1p-100 * 20, 0x1p-140);
}

TEST_P(Optimizer, NonfiniteGradientsAreCounted) {
  std::vector<double> gradients = random_values("nonfinite", 10000);
  for (const std::size_t i : {0, 17, 9999}) gradients[i] = kNaN;
  gradients[5000] = kInfinity;
  gradients[5001] = -kInfinity;
  EXPECT_EQ(norm_of(gradients, 1.0).nonfinite, 5);
  for (const double bad : {kNaN, kInfinity, -kInfinity}) {
    EXPECT_EQ(norm_of({1.0, bad, 2.0}, 0.0).nonfinite, 1) << bad;
  }
}

// Parameters of 3 blocks with constant gradients, decay on the middle one.
struct Problem {
  static constexpr std::int64_t kSize = 3 * AdamW::kBlock;

  Problem(Device& device, const Ops& ops) : Problem(device, ops.dtype(), ops.statistics_dtype()) {}
  Problem(Device& device, DType real, DType dtype)
      : start(random_values("adamw parameters", kSize)),
        slope(random_values("adamw gradients", kSize, 0.5)),
        p(device, dtype, {kSize}, start),
        g(device, dtype, {kSize}, slope),
        m(device, dtype, {kSize}, std::vector<double>(kSize, 0.0)),
        v(device, dtype, {kSize}, std::vector<double>(kSize, 0.0)),
        decays(device, DType::u8, {3}, std::vector<double>{0.0, 1.0, 0.0}),
        step(device, {}),
        norm(device, {}),
        compute(device, real, {kSize}),
        copied(real != dtype) {}

  AdamW op() const {
    return {.parameters = p,
            .gradients = g,
            .m = m,
            .v = v,
            .compute = copied ? compute.tensor() : Tensor{},
            .decays = decays,
            .step = step.data(),
            .norm = norm.data()};
  }
  bool decayed(std::size_t i) const { return i / AdamW::kBlock == 1; }

  std::vector<double> start, slope;
  DeviceTensor p, g, m, v, decays;
  DeviceStruct<AdamWStep> step;
  DeviceStruct<GradientNorm> norm;
  DeviceTensor compute;  // the parameters as products read them
  const bool copied;     // they are not the parameters themselves
};

// With bias correction and a constant gradient g, m / bc1 = g and v / bc2 = g^2 at every step, so
// p <- p - lr (s + decay p) with s = g / (|g| + eps): a geometric series.
TEST_P(Optimizer, ConstantGradientWithBiasCorrection) {
  Problem problem(*backend_.device, *backend_.ops);
  AdamW op = problem.op();
  op.beta1 = 0.8;
  op.beta2 = 0.95;
  op.epsilon = 0.125;
  op.weight_decay = 0.25;
  const double lr = 0.0625;
  const int steps = 10;
  for (int t = 1; t <= steps; ++t) {
    problem.step.set({.learning_rate = lr,
                      .bias_correction1 = 1.0 - std::pow(op.beta1, t),
                      .bias_correction2 = 1.0 - std::pow(op.beta2, t)});
    backend_.ops->adamw(op);
  }
  const std::vector<double> p = problem.p.values();
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double s = problem.slope[i] / (std::abs(problem.slope[i]) + op.epsilon);
    const double limit = -s / op.weight_decay;
    const double expected =
        problem.decayed(i)
            ? limit + (problem.start[i] - limit) * std::pow(1.0 - lr * op.weight_decay, steps)
            : problem.start[i] - lr * s * steps;
    EXPECT_NEAR(p[i], expected, 2 * precision_ * (1.0 + std::abs(expected))) << i;
  }
  EXPECT_EQ(problem.g.values(), problem.slope);
  EXPECT_TRUE(problem.p.guards_intact() && problem.m.guards_intact() && problem.v.guards_intact());
}

// google-research/bert: no correction, so the first step is (1 - b1) g / (sqrt(1 - b2) |g| + eps).
TEST_P(Optimizer, FirstStepWithoutBiasCorrection) {
  Problem problem(*backend_.device, *backend_.ops);
  problem.step.set({.learning_rate = 0.5});
  const AdamW op = problem.op();
  backend_.ops->adamw(op);
  const std::vector<double> p = problem.p.values(), m = problem.m.values(), v = problem.v.values();
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double g = problem.slope[i];
    const double direction = 0.1 * g / (std::sqrt(0.001) * std::abs(g) + 1e-6);
    const double decay = problem.decayed(i) ? 0.01 * problem.start[i] : 0.0;
    const double expected = problem.start[i] - 0.5 * (direction + decay);
    EXPECT_NEAR(p[i], expected, precision_ * (1.0 + std::abs(expected))) << i;
    EXPECT_NEAR(m[i], 0.1 * g, precision_ * std::abs(g)) << i;
    EXPECT_NEAR(v[i], 0.001 * g * g, precision_ * g * g) << i;
  }
}

TEST_P(Optimizer, MomentsDecayByTheirBetas) {
  Problem problem(*backend_.device, *backend_.ops);
  problem.m.set(std::vector<double>(Problem::kSize, 2.0));
  problem.v.set(std::vector<double>(Problem::kSize, 3.0));
  problem.g.set(std::vector<double>(Problem::kSize, 0.0));
  problem.step.set({.learning_rate = 0.0});
  backend_.ops->adamw(problem.op());
  for (const double m : problem.m.values()) EXPECT_NEAR(m, 2.0 * 0.9, 2.0 * precision_);
  for (const double v : problem.v.values()) EXPECT_NEAR(v, 3.0 * 0.999, 3.0 * precision_);
  EXPECT_EQ(problem.p.values(), problem.start);
}

TEST_P(Optimizer, ClippingScalesTheGradient) {
  Problem clipped(*backend_.device, *backend_.ops), scaled(*backend_.device, *backend_.ops);
  std::vector<double> quarter = scaled.slope;
  for (double& g : quarter) g *= 0.25;
  scaled.g.set(quarter);
  clipped.norm.set({.norm = 4.0, .scale = 0.25});
  for (Problem* problem : {&clipped, &scaled}) {
    problem->step.set({.learning_rate = 0.125});
    backend_.ops->adamw(problem->op());
  }
  EXPECT_EQ(clipped.p.values(), scaled.p.values());
  EXPECT_EQ(clipped.m.values(), scaled.m.values());
  EXPECT_EQ(clipped.v.values(), scaled.v.values());
}

TEST_P(Optimizer, APoisonedStepChangesNothing) {
  Problem problem(*backend_.device, *backend_.ops);
  problem.step.set({.learning_rate = 0.5});
  backend_.ops->adamw(problem.op());  // so that there are moments
  const std::vector<double> p = problem.p.values(), m = problem.m.values(), v = problem.v.values();
  const std::vector<double> copies = problem.compute.values();
  std::vector<double> poisoned = problem.slope;
  poisoned[100] = kNaN;
  problem.g.set(poisoned);
  backend_.ops->gradient_norm(
      {.gradients = problem.g, .max_norm = 1.0, .result = problem.norm.data()});
  EXPECT_EQ(problem.norm.get().nonfinite, 1);
  backend_.ops->adamw(problem.op());
  EXPECT_EQ(problem.p.values(), p);
  EXPECT_EQ(problem.m.values(), m);
  EXPECT_EQ(problem.v.values(), v);
  if (problem.copied) {
    EXPECT_EQ(problem.compute.values(), copies);
  }
}

// Refused are a loss above the limit, a loss that is NaN, an element that is not finite, and all
// that comes after, until the gate is opened again.
TEST_P(Optimizer, TheGateRefusesUpdates) {
  Device& device = *backend_.device;
  Problem problem(device, *backend_.ops);
  problem.step.set({.learning_rate = 0.5});
  DeviceStruct<double> loss(device, 0.0);
  DeviceStruct<UpdateGate> gate(device, {});
  // Whether a step changes parameters, moments or copies; it does all or nothing.
  const auto updates = [&](double loss_now, double max_loss, double gradient, bool reopened) {
    std::vector<double> gradients = problem.slope;
    gradients[70] = gradient;
    problem.g.set(gradients);
    loss.set(loss_now);
    gate.set({.max_loss = max_loss, .closed = reopened ? 0 : gate.get().closed});
    const std::vector<double> p = problem.p.values(), m = problem.m.values(),
                              v = problem.v.values(), copies = problem.compute.values();
    backend_.ops->gradient_norm({.gradients = problem.g,
                                 .loss = loss.data(),
                                 .gate = gate.data(),
                                 .result = problem.norm.data()});
    backend_.ops->adamw(problem.op());
    const bool changed = problem.p.values() != p;
    EXPECT_EQ(problem.m.values() != m, changed);
    EXPECT_EQ(problem.v.values() != v, changed);
    if (problem.copied) {
      EXPECT_EQ(problem.compute.values() != copies, changed);
    }
    EXPECT_EQ(problem.norm.get().refused, changed ? 0 : 1);
    EXPECT_EQ(gate.get().closed, changed ? 0 : 1);
    return changed;
  };
  EXPECT_TRUE(updates(5.0, 5.0, 1.0, false));
  EXPECT_TRUE(updates(1e300, kInfinity, 1.0, false));
  EXPECT_FALSE(updates(5.0, 4.999, 1.0, false));
  EXPECT_FALSE(updates(1.0, 4.999, 1.0, false));  // the gate is still closed
  EXPECT_TRUE(updates(1.0, 4.999, 1.0, true));
  EXPECT_FALSE(updates(kNaN, kInfinity, 1.0, true));
  EXPECT_FALSE(updates(kInfinity, kInfinity, 1.0, true));
  EXPECT_FALSE(updates(1.0, 5.0, kNaN, true));
  EXPECT_FALSE(updates(1.0, 5.0, -kInfinity, true));
  EXPECT_TRUE(updates(1.0, 5.0, 1.0, true));
}

// More parameters than a backend takes at once: each moves by the same rule, wherever it lies.
TEST_P(Optimizer, EveryOneOfManyParametersMoves) {
  constexpr std::int64_t kSize = 700 * AdamW::kBlock;
  Device& device = *backend_.device;
  const DType real = backend_.ops->dtype();
  const std::vector<double> start = random_values("many parameters", kSize), zeros(kSize, 0.0);
  const DeviceTensor p(device, statistics_, {kSize}, start);
  const DeviceTensor g(device, statistics_, {kSize}, std::vector<double>(kSize, -0.5));
  const DeviceTensor m(device, statistics_, {kSize}, zeros), v(device, statistics_, {kSize}, zeros);
  const DeviceTensor decays(device, DType::u8, {kSize / AdamW::kBlock});
  const DeviceTensor copies(device, real, {kSize});
  const DeviceStruct<AdamWStep> step(device, {.learning_rate = 0.25});
  const DeviceStruct<GradientNorm> norm(device, {});
  backend_.ops->adamw({.parameters = p,
                       .gradients = g,
                       .m = m,
                       .v = v,
                       .compute = real != statistics_ ? copies.tensor() : Tensor{},
                       .decays = decays,
                       .beta1 = 0.0,
                       .beta2 = 0.0,
                       .epsilon = 0.5,
                       .weight_decay = 0.0,
                       .step = step.data(),
                       .norm = norm.data()});
  // m = g and sqrt(v) = |g|: each parameter grows by 0.25 * 0.5 / (0.5 + 0.5).
  const std::vector<double> moved = p.values();
  for (std::size_t i = 0; i < moved.size(); ++i) {
    ASSERT_NEAR(moved[i], start[i] + 0.125, precision_ * (1.0 + std::abs(start[i]))) << i;
  }
  EXPECT_TRUE(p.guards_intact() && m.guards_intact() && v.guards_intact());
}

TEST_P(Optimizer, ZeroReachesEveryByteAndNoOther) {
  Device& device = *backend_.device;
  constexpr std::int64_t kSize = 300;
  for (const std::int64_t size : {0, 1, 3, 15, 16, 17, 40, 257}) {
    for (const std::int64_t offset : {0, 1, 5, 16, 31}) {
      const DeviceTensor bytes(device, DType::u8, {kSize}, std::vector<double>(kSize, 7.0));
      backend_.ops->zero(bytes.tensor().slice(offset, size));
      const std::vector<double> values = bytes.values();
      for (std::int64_t i = 0; i < kSize; ++i) {
        const bool inside = i >= offset && i < offset + size;
        ASSERT_EQ(values[static_cast<std::size_t>(i)], inside ? 0.0 : 7.0)
            << size << " bytes from " << offset << ", byte " << i;
      }
    }
  }
  const DeviceTensor many(device, DType::f32, {30011}, std::vector<double>(30011, 1.0));
  backend_.ops->zero(many);
  EXPECT_EQ(many.values(), std::vector<double>(30011, 0.0));
  EXPECT_TRUE(many.guards_intact());
}

// The nearest of the compute dtype, ties to even: whatever rounds by hand here would be another
// implementation, so what a test tensor holds is read back through the same dtype.
TEST_P(Optimizer, CopiesAreTheParametersRounded) {
  Problem problem(*backend_.device, *backend_.ops);
  if (!problem.copied) return;  // products read the parameters themselves
  problem.step.set({.learning_rate = 0.0625});
  backend_.ops->adamw(problem.op());
  const std::vector<double> p = problem.p.values();
  const DeviceTensor rounded(*backend_.device, backend_.ops->dtype(), {Problem::kSize}, p);
  EXPECT_EQ(problem.compute.values(), rounded.values());
  EXPECT_NE(problem.compute.values(), p);
  EXPECT_TRUE(problem.compute.guards_intact());
}

INSTANTIATE_TEST_SUITE_P(All, Optimizer,
                         ::testing::Range(std::size_t{0}, available_backends().size()),
                         [](const auto& param_info) {
                           return available_backends()[param_info.param].name;
                         });

}  // namespace
}  // namespace bert::test
