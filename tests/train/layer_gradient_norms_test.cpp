#include "train/logging/layer_gradient_norms.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "model/bert_for_pretraining.h"
#include "runtime/philox.h"
#include "train/step/backend.h"

namespace bert {
namespace {

TEST(LayerOfParameter, IsByHuggingFacesName) {
  EXPECT_EQ(layer_of_parameter("bert.embeddings.LayerNorm.weight"), "embeddings");
  EXPECT_EQ(layer_of_parameter("bert.encoder.layer.7.output.dense.bias"), "layer_07");
  EXPECT_EQ(layer_of_parameter("bert.encoder.layer.11.attention.ln.weight"), "layer_11");
  EXPECT_EQ(layer_of_parameter("bert.encoder.ln.weight"), "final_norm");
  EXPECT_EQ(layer_of_parameter("bert.pooler.dense.weight"), "pooler");
  EXPECT_EQ(layer_of_parameter("cls.predictions.bias"), "mlm_head");
  EXPECT_EQ(layer_of_parameter("cls.seq_relationship.bias"), "nsp_head");
}

// Against sums over the elements written, with an embedding of more elements than are read at once.
TEST(LayerGradientNorms, AreThoseOfTheElements) {
  for (const LayerNormPlacement placement : {LayerNormPlacement::post, LayerNormPlacement::pre}) {
    BertConfig config = bert_preset("bert_tiny");
    config.layer_norm = placement;
    config.vocab_size = 70001;
    config.hidden_size = 16;
    config.num_attention_heads = 2;
    config.intermediate_size = 24;
    config.max_position_embeddings = 16;
    Backend backend = make_backend(Precision::fp32, 1);
    BertForPretraining model(config, BertForPretraining::Heads::mlm_and_nsp);
    model.allocate(*backend.device, *backend.ops,
                   {.tokens = 16, .sequences = 1, .masked = 4, .max_seqlen = 16}, true);
    ParameterStore& store = model.parameters();
    PhiloxStream random(3, 1, 0);
    std::vector<std::pair<std::string, double>> squares;  // of layers
    std::vector<double> norms;
    double whole = 0.0;
    for (const Parameter& parameter : store.parameters()) {
      std::vector<double> values(static_cast<std::size_t>(parameter.numel()));
      double sum = 0.0;
      for (double& value : values) {
        value = static_cast<float>(random.next_double() - 0.3);
        sum += value * value;
      }
      store.write(parameter.gradient, values);
      const std::string layer = layer_of_parameter(parameter.name());
      if (squares.empty() || squares.back().first != layer) squares.emplace_back(layer, 0.0);
      squares.back().second += sum;
      norms.push_back(std::sqrt(sum));
      whole += sum;
    }
    LayerGradientNorms found = layer_gradient_norms(store);
    ASSERT_EQ(found.parameters.size(), norms.size());
    for (std::size_t i = 0; i < norms.size(); ++i) {
      EXPECT_NEAR(found.parameters[i], norms[i], 1e-12 * norms[i]);
    }
    ASSERT_EQ(found.layers.size(), squares.size());
    EXPECT_EQ(found.layers[0].name, "embeddings");
    EXPECT_EQ(found.layers[1].name, "layer_00");
    double sum = 0.0;
    for (std::size_t i = 0; i < squares.size(); ++i) {
      EXPECT_EQ(found.layers[i].name, squares[i].first);
      EXPECT_NEAR(found.layers[i].norm, std::sqrt(squares[i].second), 1e-10);
      sum += found.layers[i].norm * found.layers[i].norm;
    }
    // And against what the trainer clips by.
    GradientNorm norm;
    backend.ops->gradient_norm({.gradients = store.gradients(), .max_norm = 0.0, .result = &norm});
    EXPECT_NEAR(std::sqrt(sum), norm.norm, 1e-6 * norm.norm);
    EXPECT_NEAR(std::sqrt(whole), norm.norm, 1e-6 * norm.norm);

    const Parameter& last = store.parameters().back();
    std::vector<double> values(static_cast<std::size_t>(last.numel()));
    values[0] = std::numeric_limits<double>::quiet_NaN();
    store.write(last.gradient, values);
    found = layer_gradient_norms(store);
    EXPECT_TRUE(std::isnan(found.layers.back().norm));
    EXPECT_TRUE(std::isfinite(found.layers.front().norm));
  }
}

}  // namespace
}  // namespace bert
