// A caller's mistake is reported with the op, the tensor and what was expected.
#include "kernels/op_checks.h"

#include <functional>

#include <gtest/gtest.h>

#include "tests/support/backends.h"
#include "tests/support/device_memory.h"

namespace bert::test {
namespace {

// Memory nobody reads: the checks throw before that.
double memory[64];
Tensor some(std::initializer_list<std::int64_t> shape, DType dtype = DType::f32, int place = 0) {
  return {memory + place, dtype, shape};
}
const std::int32_t kCount = 0;

PackedTokens tokens() {
  return {.position_ids = some({4}, DType::i32),
          .token_sequence = some({4}, DType::i32),
          .cu_seqlens = some({3}, DType::i32),
          .sequence_index = some({2}, DType::u32),
          .num_tokens = &kCount,
          .num_sequences = &kCount,
          .max_seqlen = 4};
}

// What `call` throws must name all of `words`.
void expect_error(const std::function<void()>& call, const std::vector<std::string>& words) {
  try {
    call();
    ADD_FAILURE() << "accepted, although " << words.back();
  } catch (const RuntimeError& error) {
    for (const std::string& word : words) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos)
          << "\"" << error.what() << "\" does not say " << word;
    }
  }
}

LayerNormForward layer_norm() {
  return {.x = some({4, 8}),
          .gamma = some({8}),
          .beta = some({8}),
          .rows = &kCount,
          .y = some({4, 8}),
          .mean = some({4}),
          .rstd = some({4})};
}

TEST(OpChecks, AcceptsWhatIsRight) { EXPECT_NO_THROW(check(layer_norm(), DType::f32)); }

TEST(OpChecks, NamesShapeDtypeAndWhatIsMissing) {
  LayerNormForward op = layer_norm();
  op.gamma = some({7});
  expect_error([&] { check(op, DType::f32); }, {"layer_norm_forward", "gamma", "f32[7]", "f32[8]"});
  op = layer_norm();
  op.mean = some({4}, DType::f64);
  expect_error([&] { check(op, DType::f32); }, {"mean", "f64[4]", "f32[4]"});
  op = layer_norm();
  op.beta = {};
  expect_error([&] { check(op, DType::f32); }, {"beta", "missing"});
  op = layer_norm();
  op.rows = nullptr;
  expect_error([&] { check(op, DType::f32); }, {"rows", "missing"});
  expect_error([&] { check(layer_norm(), DType::f64); }, {"x", "f32[4, 8]", "f64[4, 8]"});
}

TEST(OpChecks, KnowsTheForbiddenAliases) {
  LinearForward linear{.x = some({4, 8}),
                       .weight = {.compute = some({6, 8})},
                       .activation = Activation::gelu,
                       .rows = &kCount,
                       .pre_activation = some({4, 6}, DType::f32, 8),
                       .y = some({4, 6}, DType::f32, 8)};
  expect_error([&] { check(linear, DType::f32); }, {"y", "pre_activation", "same memory"});

  BiasDropoutResidualLayerNormBackward norm{.dy = some({4, 8}),
                                            .z = some({4, 8}),
                                            .gamma = some({8}),
                                            .mean = some({4}),
                                            .rstd = some({4}),
                                            .tokens = tokens(),
                                            .dresidual = some({4, 8}, DType::f32, 8),
                                            .dx = some({4, 8}, DType::f32, 8),
                                            .dgamma = some({8}),
                                            .dbeta = some({8}),
                                            .dbias = some({8})};
  expect_error([&] { check(norm, DType::f32); }, {"dx", "dresidual", "same memory"});
}

TEST(OpChecks, KnowsWhatDoesNotGoTogether) {
  LinearBackward op{.dy = some({4, 6}),
                    .x = some({4, 8}),
                    .weight = {.compute = some({6, 8})},
                    .rows = &kCount,
                    .input_activation = Activation::gelu,
                    .input_pre_activation = some({4, 8}),
                    .dx = some({4, 8}, DType::f32, 8),
                    .accumulate_dx = true,
                    .dweight = some({6, 8})};
  expect_error([&] { check(op, DType::f32); }, {"linear_backward", "not both"});

  AttentionForward attention{.qkv = some({4, 24}),
                             .num_heads = 3,
                             .tokens = tokens(),
                             .y = some({4, 8}, DType::f32, 8),
                             .lse = some({3, 4})};
  expect_error([&] { check(attention, DType::f32); }, {"attention_forward", "num_heads"});

  const DropoutKey key;
  attention = {.qkv = some({4, 24}),
               .num_heads = 2,
               .tokens = tokens(),
               .dropout = {.probability = 1.0f, .key = &key},
               .y = some({4, 8}, DType::f32, 8),
               .lse = some({2, 4})};
  expect_error([&] { check(attention, DType::f32); }, {"dropout probability"});
  attention.dropout = {.probability = 0.1f};
  expect_error([&] { check(attention, DType::f32); }, {"dropout.key", "missing"});
  // Two heads have a number for each group up to 131,072 tokens.
  attention.dropout.key = &key;
  attention.tokens.max_seqlen = 131072;
  EXPECT_NO_THROW(check(attention, DType::f32));
  attention.tokens.max_seqlen = 131073;
  expect_error([&] { check(attention, DType::f32); }, {"with dropout, shorter sequences"});
  attention.dropout = {};
  EXPECT_NO_THROW(check(attention, DType::f32));

  AdamW adamw{.parameters = some({65}),
              .gradients = some({65}),
              .m = some({65}),
              .v = some({65}),
              .decays = some({1}, DType::u8)};
  expect_error([&] { check(adamw, DType::f32); }, {"adamw", "multiple"});
}

TEST(OpChecks, KnowTheLosses) {
  LossSums sums;
  const CrossEntropy rows{.logits = some({4, 8}),
                          .classes = 6,
                          .targets = some({4}, DType::i32, 20),
                          .weights = some({4}, DType::f32, 24),
                          .rows = &kCount,
                          .sums = &sums,
                          .row_loss = some({4}, DType::f32, 28)};
  EXPECT_NO_THROW(check(rows, DType::f32));
  CrossEntropy cross_entropy = rows;
  cross_entropy.weights = some({5}, DType::f32, 24);
  expect_error([&] { check(cross_entropy, DType::f32); }, {"cross_entropy", "weights", "f32[4]"});
  cross_entropy.weights = rows.row_loss;
  expect_error([&] { check(cross_entropy, DType::f32); }, {"row_loss", "weights", "same memory"});

  const SquaredError squares{.predictions = some({4, 1}),
                             .targets = some({4}, DType::f32, 20),
                             .rows = &kCount,
                             .sums = &sums};
  EXPECT_NO_THROW(check(squares, DType::f32));
  SquaredError squared_error = squares;
  squared_error.targets = some({4}, DType::i32, 20);
  expect_error([&] { check(squared_error, DType::f32); },
               {"squared_error", "targets", "i32[4]", "f32[4]"});
  squared_error = squares;
  squared_error.sums = nullptr;
  expect_error([&] { check(squared_error, DType::f32); }, {"squared_error", "sums", "missing"});
  squared_error = squares;
  squared_error.row_loss = squares.targets;
  expect_error([&] { check(squared_error, DType::f32); }, {"row_loss", "targets", "same memory"});

  const SpanCrossEntropy spans{.logits = some({4, 2}),
                               .tokens = tokens(),
                               .targets = some({4}, DType::i32, 20),
                               .sums = &sums,
                               .target_loss = some({2, 2}, DType::f32, 24)};
  EXPECT_NO_THROW(check(spans, DType::f32));
  SpanCrossEntropy span = spans;
  span.logits = some({4, 1});
  expect_error([&] { check(span, DType::f32); }, {"span_cross_entropy", "at least 2 columns"});
  span = spans;
  span.targets = some({2}, DType::i32, 20);
  expect_error([&] { check(span, DType::f32); }, {"targets", "i32[2]", "i32[4]"});
  span = spans;
  span.loss_unit = -1.0;
  expect_error([&] { check(span, DType::f32); }, {"span_cross_entropy", "loss_unit"});
}

// Backends on a GPU read counts there, where nothing can be thrown.
TEST(RowCount, IsBetweenNoneAndTheCapacity) {
  for (const BackendEntry& entry : available_backends()) {
    if (!entry.name.starts_with("reference_") && !entry.name.starts_with("cpu_")) continue;
    const Backend backend = entry.make();
    const DeviceTensor x(*backend.device, backend.ops->dtype(), {4, 8});
    const DeviceTensor gamma(*backend.device, backend.ops->statistics_dtype(), {8});
    const DeviceTensor mean(*backend.device, backend.ops->statistics_dtype(), {4});
    std::int32_t count = 0;
    const LayerNormForward op{
        .x = x, .gamma = gamma, .beta = gamma, .rows = &count, .y = x, .mean = mean, .rstd = mean};
    for (const std::int32_t allowed : {0, 4}) {
      count = allowed;
      EXPECT_NO_THROW(backend.ops->layer_norm_forward(op)) << entry.name;
    }
    for (const std::int32_t refused : {-1, 5}) {
      count = refused;
      expect_error([&] { backend.ops->layer_norm_forward(op); },
                   {fmt::format("count {} of capacity 4", refused)});
    }
  }
}

// --- On every backend ---------------------------------------------------------------------------
class OpsOnBackend : public ::testing::TestWithParam<std::size_t> {
 protected:
  Backend backend_ = available_backends()[GetParam()].make();
};

TEST_P(OpsOnBackend, ChecksWhatItIsGiven) {
  LayerNormForward op = layer_norm();
  op.gamma = some({7}, backend_.ops->statistics_dtype());
  op.x = some({4, 8}, backend_.ops->dtype());
  expect_error([&] { backend_.ops->layer_norm_forward(op); }, {"layer_norm_forward", "gamma"});
  expect_error([&] { backend_.ops->cross_entropy({}); }, {"cross_entropy", "logits"});
  expect_error([&] { backend_.ops->squared_error({}); }, {"squared_error", "predictions"});
  expect_error([&] { backend_.ops->span_cross_entropy({}); }, {"span_cross_entropy", "logits"});
  expect_error([&] { backend_.ops->attention_backward({}); }, {"attention_backward", "dy"});
}

TEST_P(OpsOnBackend, ZeroesAnyTensorAndNothingElse) {
  for (const DType dtype : {DType::f64, DType::f32, DType::u8}) {
    for (const std::int64_t size : {1, 7, 100003}) {
      const DeviceTensor x(*backend_.device, dtype, {size});
      backend_.ops->zero(x);
      EXPECT_EQ(x.values(), std::vector<double>(static_cast<std::size_t>(size), 0.0));
      EXPECT_TRUE(x.guards_intact());
    }
  }
  EXPECT_NO_THROW(backend_.ops->zero({}));  // absent: nothing to do
}

INSTANTIATE_TEST_SUITE_P(All, OpsOnBackend,
                         ::testing::Range(std::size_t{0}, available_backends().size()),
                         [](const auto& param_info) {
                           return available_backends()[param_info.param].name;
                         });

}  // namespace
}  // namespace bert::test
