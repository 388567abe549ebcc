// Every case of every op on every backend: against the f64 reference, and against the rules that
// kernels/ops.h states for all ops (what is written, what accumulates, what tails may do).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/ops/op_cases.h"
#include "tests/support/tolerance.h"

namespace bert::test {
namespace {

// What the reference computes for a case: every compared tensor, after forward and backward.
using Results = std::map<std::string, std::vector<double>>;

bool is_compared(const CaseTensor& tensor) {
  return tensor.role == Role::output || tensor.role == Role::gradient ||
         tensor.role == Role::accumulated_gradient;
}

// A tensor may be compared after backward unless backward overwrote its memory.
bool shares_memory(const OpCase& c, const CaseTensor& tensor) {
  return std::any_of(c.tensors.begin(), c.tensors.end(),
                     [&](const CaseTensor& other) { return other.memory_of == tensor.name; });
}

const Results& oracle(std::size_t index) {
  static std::map<std::size_t, Results> cache;
  const auto found = cache.find(index);
  if (found != cache.end()) return found->second;
  const OpCase& c = all_op_cases()[index];
  const Backend backend = reference_backend();
  BoundCase bound(c, backend);
  bound.run_forward();
  Results results;
  for (const CaseTensor& t : c.tensors) {
    if (t.role == Role::output) results[t.name] = bound.values(t.name);
  }
  if (c.backward) {
    bound.run_backward();
    for (const CaseTensor& t : c.tensors) {
      if (t.role == Role::gradient) results[t.name] = bound.values(t.name);
      if (t.role != Role::accumulated_gradient) continue;
      results[t.name] = bound.values(t.name);
      const std::vector<double> initial = bound.initial_gradient(t);
      for (std::size_t i = 0; i < initial.size(); ++i) results[t.name][i] -= initial[i];
    }
  }
  return cache.emplace(index, std::move(results)).first->second;
}

double largest(const std::vector<double>& values, const CaseTensor& tensor) {
  double result = 0.0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (tensor.is_valid(static_cast<std::int64_t>(i))) {
      result = std::max(result, std::abs(values[i]));
    }
  }
  return result;
}

// Whether f32 tensors of a bf16 backend come from values that the op has rounded to bf16 on the
// way: a fused op's sum before its LayerNorm, the gradient of an activation. All others, such as a
// weight's gradient from dy and x, are held to the tolerance of f32.
bool rounds_on_the_way(const OpCase& c) {
  return c.op == "embeddings" || c.op == "bias_dropout_residual_layer_norm" ||
         c.op == "feed_forward" ||
         std::any_of(c.tensors.begin(), c.tensors.end(),
                     [](const CaseTensor& t) { return t.name == "dpre"; });
}

// Whether a tensor comes out of products in FP8, on a backend that has them: dbias is summed from
// dy as it is, unless that is the gradient of an activation whose input was such a product.
bool comes_from_fp8(const OpCase& c, const CaseTensor& tensor) {
  return c.fp8 && (tensor.name != "dbias" || rounds_on_the_way(c));
}

// |value - expected| <= tolerance * max(largest |expected|, `also`), on valid rows. The largest
// error, relative to that maximum.
double expect_close(const CaseTensor& tensor, const std::vector<double>& values,
                    const std::vector<double>& expected, DType dtype, double also = 0.0) {
  const double size = std::max(largest(expected, tensor), also);
  const double allowed = tolerance(dtype, tensor.terms) * size;
  double worst = 0.0;
  std::size_t worst_index = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!tensor.is_valid(static_cast<std::int64_t>(i))) continue;
    const double error = std::abs(values[i] - expected[i]);
    if (!(error <= worst)) {
      worst = error;
      worst_index = i;
      if (std::isnan(error)) break;
    }
  }
  EXPECT_LE(worst, allowed) << tensor.name << "[" << worst_index << "] is " << values[worst_index]
                            << ", the reference says " << expected[worst_index]
                            << "; largest of the tensor " << size << ", error " << worst / allowed
                            << " of what is allowed";
  return size > 0.0 ? worst / size : 0.0;
}

// The largest error of each op's tensors on the backends of one precision, for a table at the end.
class WorstErrors : public ::testing::Environment {
 public:
  void note(const std::string& precision, const std::string& op, double error) {
    double& worst = worst_[op][precision];
    if (!(error <= worst)) worst = error;
    precisions_.insert(precision);
  }
  void TearDown() override {
    if (worst_.empty()) return;
    std::printf("largest error, relative to the largest number of the tensor\n%-42s", "");
    for (const std::string& precision : precisions_) std::printf("%10s", precision.c_str());
    for (const auto& [op, errors] : worst_) {
      std::printf("\n%-42s", op.c_str());
      for (const std::string& precision : precisions_) {
        const auto error = errors.find(precision);
        std::printf("%10s",
                    error == errors.end() ? "" : fmt::format("{:.1e}", error->second).c_str());
      }
    }
    std::printf("\n");
  }

 private:
  std::map<std::string, std::map<std::string, double>> worst_;
  std::set<std::string> precisions_;
};
WorstErrors& worst_errors() {  // googletest owns it
  static auto* const errors =
      static_cast<WorstErrors*>(::testing::AddGlobalTestEnvironment(new WorstErrors));
  return *errors;
}
const WorstErrors& registered_before_main = worst_errors();

void expect_tail(const CaseTensor& tensor, const std::vector<double>& values, bool zero) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (tensor.is_valid(static_cast<std::int64_t>(i))) continue;
    const bool good = zero ? values[i] == 0.0 : std::isfinite(values[i]);
    ASSERT_TRUE(good) << "tail element " << i << " of " << tensor.name << " is " << values[i]
                      << (zero ? ", not zero" : ", not finite");
  }
}

// Tails may hold anything finite, and need not be the same twice.
std::vector<std::byte> valid_bytes(const CaseTensor& tensor, std::vector<std::byte> bytes) {
  const std::size_t size = bytes.size() / static_cast<std::size_t>(tensor.numel());
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (!tensor.is_valid(static_cast<std::int64_t>(i / size))) bytes[i] = std::byte{0};
  }
  return bytes;
}

class OpOnBackend : public ::testing::TestWithParam<std::tuple<std::size_t, std::size_t>> {
 protected:
  std::size_t index_ = std::get<1>(GetParam());
  const OpCase& case_ = all_op_cases()[index_];
  const BackendEntry& entry_ = available_backends()[std::get<0>(GetParam())];
  Backend backend_ = entry_.make();

  void compare(const CaseTensor& tensor, const std::vector<double>& values,
               const std::vector<double>& expected, DType dtype, double also = 0.0) {
    const std::string_view precision = dtype_name(backend_.ops->dtype());
    worst_errors().note(std::string(entry_.fp8 ? "fp8" : precision), case_.op,
                        expect_close(tensor, values, expected, dtype, also));
  }
};

TEST_P(OpOnBackend, KeepsItsContract) {
  BoundCase bound(case_, backend_);
  const Results& expected = oracle(index_);
  const auto precision_of = [&](const CaseTensor& t) {
    if (entry_.fp8 && comes_from_fp8(case_, t)) {
      return t.role == Role::output ? DType::e4m3 : DType::e5m2;
    }
    return t.kind == Kind::statistics && !rounds_on_the_way(case_)
               ? backend_.ops->statistics_dtype()
               : backend_.ops->dtype();
  };

  bound.run_forward();
  for (const CaseTensor& t : case_.tensors) {
    if (t.role == Role::input && !shares_memory(case_, t)) {
      EXPECT_EQ(bound.bytes(t.name), encode(t.values, bound.dtype_of_kind(t.kind)))
          << "forward changed its input " << t.name;
    }
    if (t.role != Role::output) continue;
    compare(t, bound.values(t.name), expected.at(t.name), precision_of(t));
    if (t.kind == Kind::real) expect_tail(t, bound.values(t.name), false);
  }
  EXPECT_EQ(bound.broken_guards(), "") << "forward wrote outside";
  if (!case_.backward) return;

  std::map<std::string, std::vector<std::byte>> kept;
  for (const CaseTensor& t : case_.tensors) {
    if (t.role == Role::input || t.role == Role::output) kept[t.name] = bound.bytes(t.name);
  }
  bound.run_backward();
  std::map<std::string, std::vector<std::byte>> first;
  for (const CaseTensor& t : case_.tensors) {
    const std::vector<double> values = bound.values(t.name);
    if (kept.count(t.name)) {
      EXPECT_EQ(bound.bytes(t.name), kept[t.name]) << "backward changed " << t.name;
    } else if (t.role == Role::upstream && !t.scratch && !shares_memory(case_, t)) {
      EXPECT_EQ(bound.bytes(t.name), encode(t.values, bound.dtype_of_kind(t.kind)))
          << "backward changed the upstream gradient " << t.name;
    } else if (t.role == Role::gradient) {
      compare(t, values, expected.at(t.name), precision_of(t));
      expect_tail(t, values, true);
    } else if (t.role == Role::accumulated_gradient) {
      const std::vector<double> initial = bound.initial_gradient(t);
      std::vector<double> gained = values;
      for (std::size_t i = 0; i < gained.size(); ++i) gained[i] -= initial[i];
      compare(t, gained, expected.at(t.name), precision_of(t), largest(initial, t));
      expect_tail(t, values, true);
    }
    if (is_compared(t)) first[t.name] = bound.bytes(t.name);
  }
  EXPECT_EQ(bound.broken_guards(), "") << "backward wrote outside";

  // A second micro-batch on top: accumulated gradients gain as much again, the others are the same.
  bound.run_backward(true);
  for (const CaseTensor& t : case_.tensors) {
    if (t.role == Role::gradient) {
      EXPECT_EQ(bound.bytes(t.name), first[t.name]) << t.name << " differs the second time";
    }
    if (t.role != Role::accumulated_gradient) continue;
    const std::vector<double> initial = bound.initial_gradient(t);
    std::vector<double> gained = bound.values(t.name), twice = expected.at(t.name);
    for (std::size_t i = 0; i < gained.size(); ++i) {
      gained[i] -= initial[i];
      twice[i] *= 2.0;
    }
    compare(t, gained, twice, precision_of(t), largest(initial, t));
  }

  // All over again in other memory, at another timing: the same bits. Large cases, where threads
  // race, several times if there is no other way to another timing.
  const int repeats = entry_.set_timing || case_.differences ? 1 : 4;
  for (int repeat = 1; repeat <= repeats; ++repeat) {
    if (entry_.set_timing) entry_.set_timing(repeat);
    BoundCase again(case_, backend_);
    again.run_forward();
    again.run_backward();
    if (entry_.set_timing) entry_.set_timing(0);
    for (const CaseTensor& t : case_.tensors) {
      if (!is_compared(t)) continue;
      EXPECT_EQ(valid_bytes(t, again.bytes(t.name)), valid_bytes(t, first[t.name]))
          << t.name << " is not reproducible";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, OpOnBackend,
    ::testing::Combine(::testing::Range(std::size_t{0}, available_backends().size()),
                       ::testing::Range(std::size_t{0}, all_op_cases().size())),
    [](const auto& param_info) {
      const OpCase& c = all_op_cases()[std::get<1>(param_info.param)];
      return available_backends()[std::get<0>(param_info.param)].name + "_" + c.op + "_" + c.name;
    });

// Attention where a run has gone astray: scores that are not finite, or too large to be told apart
// from their maximum. It ends, the sequences that are affected show it, for that is what a step is
// skipped for, and no other sequence does.
class AttentionGoneAstray : public ::testing::TestWithParam<std::size_t> {};

TEST_P(AttentionGoneAstray, EndsAndShows) {
  const std::vector<OpCase>& cases = all_op_cases();
  const auto found = std::find_if(cases.begin(), cases.end(), [](const OpCase& c) {
    return c.op == "attention" && c.name == "head_size_64";  // sequences of 33, 16, 1, 47 and 2
  });
  ASSERT_NE(found, cases.end());
  const Results& expected = oracle(static_cast<std::size_t>(found - cases.begin()));
  const Backend backend = available_backends()[GetParam()].make();
  BoundCase bound(*found, backend);
  std::vector<double>& qkv = bound.host_values("qkv");
  const auto width = static_cast<std::size_t>((*found)["qkv"].shape[1]);
  const auto row = [&](std::size_t r) {
    return qkv.begin() + static_cast<std::ptrdiff_t>(r * width);
  };
  std::fill(row(5), row(6), std::numeric_limits<double>::quiet_NaN());
  std::for_each(row(33), row(49), [](double& value) { value *= 1e12; });
  std::fill(row(60), row(61), std::numeric_limits<double>::infinity());
  const auto check = [&](const std::string& name) {
    const CaseTensor& tensor = (*found)[name];
    const auto columns = static_cast<std::size_t>(tensor.shape[1]);
    const std::vector<double> values = bound.values(name);
    std::vector<double> healthy = expected.at(name);
    bool shows[2] = {};  // the NaN, the infinity
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t r = i / columns;
      if (r == 49 || r >= 97) healthy[i] = values[i];
      if (r < 33) shows[0] |= !std::isfinite(values[i]);
      if (r >= 50 && r < 97) shows[1] |= !std::isfinite(values[i]);
    }
    EXPECT_TRUE(shows[0] && shows[1]) << name;
    expect_close(tensor, healthy, expected.at(name), backend.ops->dtype());
  };
  bound.run_forward();
  check("y");
  bound.run_backward();
  check("dqkv");
}

INSTANTIATE_TEST_SUITE_P(All, AttentionGoneAstray,
                         ::testing::Range(std::size_t{0}, available_backends().size()),
                         [](const auto& param_info) {
                           return available_backends()[param_info.param].name;
                         });

// A backend that cannot run here shows up as skipped, or fails where it is required.
class MissingBackends : public ::testing::TestWithParam<std::size_t> {};

TEST_P(MissingBackends, IsSkippedVisibly) {
  const MissingBackend& missing = missing_backends()[GetParam()];
  if (std::getenv(missing.require_variable.c_str()) != nullptr) {
    FAIL() << missing.name << " is required by " << missing.require_variable << ": "
           << missing.reason;
  }
  GTEST_SKIP() << missing.name << ": " << missing.reason << " (" << missing.require_variable
               << "=1 makes this a failure)";
}

INSTANTIATE_TEST_SUITE_P(All, MissingBackends,
                         ::testing::Range(std::size_t{0}, missing_backends().size()),
                         [](const auto& param_info) {
                           return missing_backends()[param_info.param].name;
                         });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(MissingBackends);

}  // namespace
}  // namespace bert::test
