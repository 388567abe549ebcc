// Every op's backward in reference f64 against finite differences of its forward, dropout on.
#include <gtest/gtest.h>

#include "tests/ops/op_cases.h"
#include "tests/support/grad_check.h"

namespace bert::test {
namespace {

// Runs the case and checks every gradient of an input.
void check_case(GradCheck& check, BoundCase& bound, const OpCase& c) {
  bound.run_forward();
  bound.run_backward();
  struct Pair {
    const CaseTensor *gradient, *input;
    std::vector<double> analytic;
  };
  std::vector<Pair> pairs;
  for (const CaseTensor& gradient : c.tensors) {
    const bool accumulated = gradient.role == Role::accumulated_gradient;
    if (gradient.role != Role::gradient && !accumulated) continue;
    if (c[gradient.of].role != Role::input) continue;  // of an intermediate
    Pair pair{&gradient, &c[gradient.of], bound.values(gradient.name)};
    if (accumulated) {
      const std::vector<double> initial = bound.initial_gradient(gradient);
      for (std::size_t i = 0; i < initial.size(); ++i) pair.analytic[i] -= initial[i];
    }
    pairs.push_back(std::move(pair));
  }
  for (const Pair& pair : pairs) {
    std::vector<std::int64_t> valid;
    for (std::int64_t i = 0; i < pair.input->numel(); ++i) {
      if (pair.input->is_valid(i)) valid.push_back(i);
    }
    check.tensor(pair.input->name, bound.host_values(pair.input->name), pair.analytic, valid);
  }
}

class OpGradient : public ::testing::TestWithParam<std::size_t> {};

TEST_P(OpGradient, MatchesFiniteDifferences) {
  const OpCase& c = all_op_cases()[GetParam()];
  const Backend backend = reference_backend();
  BoundCase bound(c, backend);
  GradCheck check(c.op + "/" + c.name, [&] {
    bound.run_forward();
    return bound.loss();
  });
  check_case(check, bound, c);
  EXPECT_FALSE(check.rows().empty());
  EXPECT_TRUE(check.passed()) << check.failures();
}

std::vector<std::size_t> differentiable_cases() {
  std::vector<std::size_t> indices;
  for (std::size_t i = 0; i < all_op_cases().size(); ++i) {
    if (all_op_cases()[i].differences && all_op_cases()[i].backward) indices.push_back(i);
  }
  return indices;
}

INSTANTIATE_TEST_SUITE_P(All, OpGradient, ::testing::ValuesIn(differentiable_cases()),
                         [](const auto& param_info) {
                           const OpCase& c = all_op_cases()[param_info.param];
                           return c.op + "_" + c.name;
                         });

// --- The checker itself -------------------------------------------------------------------------

// The case `op`/`name` with something wrong done after its backward.
template <typename Spoil>
void expect_caught(const std::string& op, const std::string& name, Spoil spoil) {
  for (const OpCase& original : all_op_cases()) {
    if (original.op != op || original.name != name) continue;
    OpCase wrong = original;
    wrong.backward = [&](Ops& ops, const BoundCase& b) {
      original.backward(ops, b);
      spoil(b);
    };
    const Backend backend = reference_backend();
    BoundCase bound(wrong, backend);
    GradCheck check(op, [&] {
      bound.run_forward();
      return bound.loss();
    });
    check.set_recorded(false);
    check_case(check, bound, wrong);
    EXPECT_FALSE(check.passed()) << "a wrong backward of " << op << " was not noticed";
    EXPECT_NE(check.failures(), "");
    return;
  }
  FAIL() << "no case " << op << "/" << name;
}

TEST(GradCheckItself, CatchesAFactorOfOneInAMillion) {
  expect_caught("linear", "odd", [](const BoundCase& b) {
    const Tensor dx = b("dx");
    for (std::int64_t i = 0; i < dx.numel(); ++i) dx.data<double>()[i] *= 1.0 + 1e-6;
  });
}

TEST(GradCheckItself, CatchesAWrongSign) {
  expect_caught("layer_norm", "odd", [](const BoundCase& b) {
    const Tensor dx = b("dx");
    for (std::int64_t i = 0; i < dx.numel(); ++i) dx.data<double>()[i] *= -1.0;
  });
}

TEST(GradCheckItself, CatchesAMissingTerm) {
  // d softmax without its "- sum of dP P": dK then has a part along Q that should not be there.
  expect_caught("attention", "one_sequence", [](const BoundCase& b) {
    const Tensor dqkv = b("dqkv"), qkv = b("qkv");
    for (std::int64_t i = 0; i < dqkv.numel(); ++i) {
      dqkv.data<double>()[i] += 1e-4 * qkv.data<double>()[i];
    }
  });
}

TEST(GradCheckItself, CatchesNaN) {
  expect_caught("linear", "odd",
                [](const BoundCase& b) { b("dbias").data<double>()[0] = std::nan(""); });
}

TEST(GradCheckItself, CatchesAGradientThatIsForgotten) {
  expect_caught("embeddings", "several", [](const BoundCase& b) {
    const std::vector<double> initial = b.initial_gradient(b.op_case()["dposition"]);
    std::copy(initial.begin(), initial.end(), b("dposition").data<double>());
  });
}

TEST(GradCheckItself, CatchesBackwardWithOtherDropoutBits) {
  for (const OpCase& original : all_op_cases()) {
    if (original.op != "attention" || original.name != "much_dropout") continue;
    OpCase wrong = original;
    wrong.backward = [](Ops& ops, const BoundCase& b) {
      ops.attention_backward({.dy = b("dy"),
                              .y = b("y"),
                              .qkv = b("qkv"),
                              .lse = b("lse"),
                              .num_heads = 1,
                              .tokens = b.tokens(),
                              .dropout = b.dropout(0),
                              .dqkv = b("dqkv")});
    };
    const Backend backend = reference_backend();
    BoundCase bound(wrong, backend);
    GradCheck check("attention", [&] {
      bound.run_forward();
      return bound.loss();
    });
    check.set_recorded(false);
    check_case(check, bound, wrong);
    EXPECT_FALSE(check.passed());
    return;
  }
  FAIL() << "the case is gone";
}

// A gradient that is zero by symmetry, as a key bias has: not compared with itself.
TEST(GradCheckItself, AcceptsRoundingAroundZero) {
  std::vector<double> values = {0.25, -1.5};
  const std::vector<double> analytic = {1e-17, 3.0};
  GradCheck check("zero", [&] { return 2.0 + 3.0 * values[1] + (values[0] - values[0]); });
  check.set_recorded(false);
  check.tensor("values", values, analytic);
  EXPECT_TRUE(check.passed()) << check.failures();
}

TEST(GradCheckItself, PutsTheValuesBack) {
  std::vector<double> values = {0.1, 0.2, 0.3};
  const std::vector<double> before = values, analytic = {0.2, 0.4, 0.6};
  GradCheck check("squares", [&] {
    return values[0] * values[0] + values[1] * values[1] + values[2] * values[2];
  });
  check.set_recorded(false);
  check.tensor("values", values, analytic);
  EXPECT_TRUE(check.passed()) << check.failures();
  EXPECT_EQ(values, before);
}

}  // namespace
}  // namespace bert::test
