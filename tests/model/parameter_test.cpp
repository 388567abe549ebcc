// How many parameters a model has, where they lie, and what they start as.
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "tests/model/model_fixture.h"

namespace bert::test {
namespace {

using Heads = BertForPretraining::Heads;

std::int64_t count_of(std::string_view preset, Heads heads) {
  return BertForPretraining(bert_preset(preset), heads).parameters().num_parameters();
}

// Hugging Face's BertModel: embeddings, encoder, pooler.
std::int64_t count_without_heads(std::string_view preset) {
  const BertForPretraining model(bert_preset(preset), Heads::mlm_and_nsp);
  std::int64_t n = 0;
  for (const Parameter& parameter : model.parameters().parameters()) {
    if (!parameter.name().starts_with("cls.")) n += parameter.numel();
  }
  return n;
}

TEST(ParameterCount, IsThatOfThePublishedModels) {
  EXPECT_EQ(count_without_heads("bert_base"), 109482240);
  EXPECT_EQ(count_of("bert_base", Heads::mlm), 109514298);
  EXPECT_EQ(count_of("bert_base", Heads::mlm_and_nsp), 110106428);
  EXPECT_EQ(count_without_heads("bert_large"), 335141888);
  EXPECT_EQ(count_of("bert_large", Heads::mlm_and_nsp), 336226108);
}

// Pre-LN has a LayerNorm at the end instead of one after the embeddings: as many elements.
TEST(ParameterCount, IsTheSameForPreLayerNorm) {
  BertConfig config = bert_preset("bert_base");
  config.layer_norm = LayerNormPlacement::pre;
  EXPECT_EQ(BertForPretraining(config, Heads::mlm_and_nsp).parameters().num_parameters(),
            110106428);
}

BertConfig small_config() {
  BertConfig config;
  config.vocab_size = 997;
  config.hidden_size = 66;  // neither it nor its multiples fill a block of AdamW
  config.num_hidden_layers = 2;
  config.num_attention_heads = 3;
  config.intermediate_size = 131;
  config.max_position_embeddings = 50;
  return config;
}

struct Allocated {
  explicit Allocated(const BertConfig& config, DType dtype = DType::f32)
      : model(config, Heads::mlm_and_nsp) {
    store().allocate(*device, dtype, dtype, true);
  }
  ParameterStore& store() { return model.parameters(); }
  std::vector<double> all() { return store().read(store().values()); }

  std::unique_ptr<Device> device = make_poisoned_device();
  BertForPretraining model;
};

class ParameterLayout : public ::testing::TestWithParam<LayerNormPlacement> {
 protected:
  BertConfig config() const {
    BertConfig c = small_config();
    c.layer_norm = GetParam();
    return c;
  }
};

TEST_P(ParameterLayout, IsContiguousInBlocksAndPaddedWithZeros) {
  Allocated model(config());
  model.store().initialize(config(), 3);
  const std::vector<double> values = model.all();
  const std::vector<double> gradients = model.store().read(model.store().gradients());
  std::int64_t next = 0;
  for (const Parameter& parameter : model.store().parameters()) {
    EXPECT_EQ(parameter.offset, next) << parameter.name();
    next = parameter.offset + parameter.numel();
    EXPECT_EQ(parameter.compute.raw(), parameter.value.raw());
    EXPECT_EQ(parameter.compute_gradient.raw(), parameter.gradient.raw());
    EXPECT_EQ(parameter.compute.rows(), parameter.stored_rows());
    const std::int64_t end =
        next + parameter.padding_rows * (parameter.numel() / parameter.shape[0]);
    for (; next < end; ++next) ASSERT_EQ(values[static_cast<std::size_t>(next)], 0.0);
    for (; next % AdamW::kBlock != 0; ++next) {
      ASSERT_EQ(values[static_cast<std::size_t>(next)], 0.0) << "after " << parameter.name();
    }
    EXPECT_EQ(parameter.value.raw(), model.store().values().data<float>() + parameter.offset);
    EXPECT_EQ(parameter.gradient.raw(), model.store().gradients().data<float>() + parameter.offset);
    EXPECT_EQ(parameter.value.numel(), parameter.numel());
    EXPECT_EQ(parameter.gradient.numel(), parameter.numel());
    EXPECT_EQ(parameter.value.rank(), static_cast<int>(parameter.shape.size()));
  }
  EXPECT_EQ(model.store().values().numel(), next);
  EXPECT_EQ(gradients, std::vector<double>(static_cast<std::size_t>(next), 0.0));
}

TEST_P(ParameterLayout, FollowsTheLayers) {
  const BertForPretraining model(config(), Heads::mlm_and_nsp);
  const auto rank = [](const std::string& name) {
    if (name.starts_with("bert.embeddings.")) return 0;
    const std::string layer = "bert.encoder.layer.";
    if (name.starts_with(layer)) return 1 + std::stoi(name.substr(layer.size()));
    if (name.starts_with("bert.encoder.ln.")) return 100;
    return 101;
  };
  int last = 0;
  // Pre-LN: a layer's closing LayerNorm is by name the next one's first.
  for (const Parameter& parameter : model.parameters().parameters()) {
    const int now = rank(parameter.name());
    if (now == 100 || parameter.name().find("attention.ln") != std::string::npos) continue;
    EXPECT_GE(now, last) << parameter.name();
    last = now;
  }
  EXPECT_EQ(last, 101);
}

TEST_P(ParameterLayout, NamesEveryTensorOnce) {
  const BertForPretraining model(config(), Heads::mlm_and_nsp);
  std::set<std::string> names;
  for (const Parameter& parameter : model.parameters().parameters()) {
    for (const std::string& name : parameter.hf_names) {
      EXPECT_TRUE(names.insert(name).second) << name;
    }
  }
  // Two layers of 16 tensors, 5 embedding or LayerNorm tensors, pooler 2, heads 5 + 2.
  EXPECT_EQ(names.size(), 2u * 16 + 5 + 2 + 5 + 2);
}

// What decays is decided by kind; that the kinds are right is said here by shape and name.
TEST_P(ParameterLayout, DecaysMatricesOnly) {
  Allocated model(config());
  const Tensor& flags = model.store().decays();
  ASSERT_EQ(flags.numel() * AdamW::kBlock, model.store().values().numel());
  std::int64_t matrices = 0;
  for (const Parameter& parameter : model.store().parameters()) {
    const std::string& name = parameter.name();
    const bool is_norm =
        name.find("LayerNorm") != std::string::npos || name.find(".ln.") != std::string::npos;
    const bool is_bias = name.ends_with("bias");
    const ParameterKind expected =
        is_norm ? (is_bias ? ParameterKind::layer_norm_bias : ParameterKind::layer_norm_weight)
                : (is_bias ? ParameterKind::bias : ParameterKind::weight);
    EXPECT_EQ(parameter.kind, expected) << name;
    EXPECT_EQ(parameter.decays(), !is_norm && !is_bias) << name;
    EXPECT_EQ(parameter.decays(), parameter.shape.size() == 2) << name;
    matrices += parameter.decays() ? 1 : 0;
    const std::int64_t last = (parameter.offset + parameter.numel() - 1) / AdamW::kBlock;
    for (std::int64_t block = parameter.offset / AdamW::kBlock; block <= last; ++block) {
      ASSERT_EQ(flags.data<std::uint8_t>()[block], parameter.decays() ? 1 : 0) << name;
    }
  }
  EXPECT_EQ(matrices, 3 + 2 * 4 + 1 + 1 + 1);  // embeddings, layers, pooler, transform, NSP
}

INSTANTIATE_TEST_SUITE_P(Both, ParameterLayout,
                         ::testing::Values(LayerNormPlacement::post, LayerNormPlacement::pre),
                         [](const auto& param_info) {
                           return std::string(layer_norm_name(param_info.param));
                         });

struct Statistics {
  double mean = 0.0, std = 0.0, largest = 0.0;
  std::int64_t count = 0;
};

Statistics statistics(const std::vector<double>& values) {
  Statistics s;
  s.count = static_cast<std::int64_t>(values.size());
  const auto n = static_cast<double>(values.size());
  for (const double v : values) s.mean += v / n;
  for (const double v : values) s.std += (v - s.mean) * (v - s.mean) / n;
  s.std = std::sqrt(s.std);
  s.largest = largest(values);
  return s;
}

void check_initialization(WeightInit init, double expected_std) {
  BertConfig config = small_config();
  config.init = init;
  config.initializer_range = 0.03;
  Allocated model(config);
  model.store().initialize(config, 7);
  double largest_of_all = 0.0;
  for (const Parameter& parameter : model.store().parameters()) {
    const std::vector<double> values = model.store().read(parameter.value);
    const Statistics s = statistics(values);
    switch (parameter.kind) {
      case ParameterKind::layer_norm_weight:
        EXPECT_EQ(values, std::vector<double>(values.size(), 1.0)) << parameter.name();
        break;
      case ParameterKind::bias:
      case ParameterKind::layer_norm_bias:
        EXPECT_EQ(s.largest, 0.0) << parameter.name();
        break;
      case ParameterKind::weight: {
        // Five standard errors of a mean and of a standard deviation.
        const double error = 5.0 * expected_std / std::sqrt(static_cast<double>(s.count));
        EXPECT_NEAR(s.mean, 0.0, error) << parameter.name();
        EXPECT_NEAR(s.std, expected_std, error / std::sqrt(2.0)) << parameter.name();
        largest_of_all = std::max(largest_of_all, s.largest);
        break;
      }
    }
  }
  // 150,000 draws reach all of what they may.
  if (init == WeightInit::truncated_normal) {
    EXPECT_LE(largest_of_all, static_cast<float>(2.0 * config.initializer_range));
    EXPECT_GT(largest_of_all, 1.999 * config.initializer_range);
  } else {
    EXPECT_GT(largest_of_all, 3.5 * config.initializer_range);
    EXPECT_LT(largest_of_all, 6.0 * config.initializer_range);
  }
}

// A standard normal cut at two standard deviations has variance 1 - 4 phi(2) / (2 Phi(2) - 1).
TEST(Initialization, TruncatedNormalStaysWithinTwoStandardDeviations) {
  check_initialization(WeightInit::truncated_normal, 0.03 * 0.8796256610342398);
}

TEST(Initialization, NormalHasTheWholeBell) { check_initialization(WeightInit::normal, 0.03); }

TEST(Initialization, IsAPureFunctionOfTheSeed) {
  const BertConfig config = small_config();
  const auto values = [&](std::uint64_t seed) {
    Allocated model(config);
    model.store().initialize(config, seed);
    return model.all();
  };
  const std::vector<double> first = values(1);
  EXPECT_EQ(values(1), first);
  EXPECT_NE(values(2), first);

  Allocated again(config);
  again.store().initialize(config, 2);
  again.store().initialize(config, 1);
  EXPECT_EQ(again.all(), first);
}

TEST(Initialization, DoesNotDependOnTheDtype) {
  const BertConfig config = small_config();
  Allocated narrow(config, DType::f32), wide(config, DType::f64);
  narrow.store().initialize(config, 5);
  wide.store().initialize(config, 5);
  std::vector<double> rounded = wide.all();
  EXPECT_NE(narrow.all(), rounded);
  for (double& value : rounded) value = static_cast<float>(value);
  EXPECT_EQ(narrow.all(), rounded);
}

// Every matrix draws from a stream of its own.
TEST(Initialization, GivesNoTwoMatricesTheSameWeights) {
  const BertConfig config = small_config();
  Allocated model(config);
  model.store().initialize(config, 1);
  std::set<std::vector<double>> beginnings;
  std::size_t matrices = 0;
  for (const Parameter& parameter : model.store().parameters()) {
    if (parameter.kind != ParameterKind::weight) continue;
    std::vector<double> values = model.store().read(parameter.value);
    values.resize(4);
    beginnings.insert(values);
    ++matrices;
  }
  EXPECT_EQ(beginnings.size(), matrices);
}

TEST(ParameterStore, ReadsBackWhatWasWritten) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    Allocated model(small_config(), dtype);
    const Parameter& parameter = model.store().parameters()[4];
    std::vector<double> values(static_cast<std::size_t>(parameter.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.5 * static_cast<double>(i) - 3.0;
    model.store().write(parameter.value, values);
    EXPECT_EQ(model.store().read(parameter.value), values);
    EXPECT_EQ(model.store().read(model.store().parameters()[5].value)[0], 0.0);
  }
}

}  // namespace
}  // namespace bert::test
