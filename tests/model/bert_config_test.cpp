#include "model/bert_config.h"

#include <functional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace bert {
namespace {

// The message of the InputError that `action` throws.
std::string input_error(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no InputError was thrown";
  return "";
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

TEST(BertConfig, PresetsHaveThePublishedSizes) {
  const BertConfig base = bert_preset("bert_base");
  EXPECT_EQ(base, BertConfig{});
  EXPECT_EQ(base.head_size(), 64);
  const BertConfig large = bert_preset("bert_large");
  EXPECT_EQ(large.num_hidden_layers, 24);
  EXPECT_EQ(large.hidden_size, 1024);
  EXPECT_EQ(large.num_attention_heads, 16);
  EXPECT_EQ(large.intermediate_size, 4096);
  for (const std::string& name : bert_preset_names()) {
    EXPECT_NO_THROW(bert_preset(name).validate()) << name;
    EXPECT_EQ(bert_preset(name).head_size(), 64) << name;
  }
  const std::string message = input_error([] { bert_preset("bert_huge"); });
  expect_contains(message, "bert_huge");
  expect_contains(message, "bert_tiny, bert_mini, bert_small, bert_base, bert_large");
}

TEST(BertConfig, ValidateNamesKeyValueAndExpectation) {
  const auto message = [](const std::function<void(BertConfig&)>& change) {
    BertConfig config;
    change(config);
    return input_error([&] { config.validate(); });
  };
  std::string text = message([](BertConfig& c) { c.num_attention_heads = 5; });
  expect_contains(text, "hidden_size is 768 and num_attention_heads 5");
  text = message([](BertConfig& c) { c.vocab_size = 0; });
  expect_contains(text, "vocab_size is 0: expected an integer from 1");
  text = message([](BertConfig& c) { c.hidden_dropout_prob = 1.0; });
  expect_contains(text, "hidden_dropout_prob is 1");
  text = message([](BertConfig& c) { c.hidden_act = Activation::tanh; });
  expect_contains(text, "hidden_act is tanh: expected gelu or gelu_new");
  text = message([](BertConfig& c) { c.layer_norm_eps = 0.0; });
  expect_contains(text, "layer_norm_eps is 0");
  text = message([](BertConfig& c) { c.initializer_range = -0.02; });
  expect_contains(text, "initializer_range is -0.02");
}

TEST(BertConfig, HuggingFaceJsonRoundTrip) {
  BertConfig config = bert_preset("bert_mini");
  config.vocab_size = 4001;
  config.hidden_act = Activation::gelu;
  config.hidden_dropout_prob = 0.0;
  config.attention_probs_dropout_prob = 0.25;
  config.max_position_embeddings = 130;
  config.type_vocab_size = 1;
  config.initializer_range = 0.013;
  config.layer_norm_eps = 1e-5;
  const std::string post = to_hugging_face_json(config, {"ForPreTraining"}, 3);
  EXPECT_EQ(from_hugging_face_json(post, "x"), config);
  const auto json = nlohmann::json::parse(post);
  EXPECT_EQ(json["model_type"], "bert");
  EXPECT_EQ(json["architectures"][0], "BertForPreTraining");
  EXPECT_EQ(json["hidden_act"], "gelu");
  EXPECT_EQ(json["pad_token_id"], 3);
  EXPECT_EQ(json["layer_norm_eps"], 1e-5);

  config.layer_norm = LayerNormPlacement::pre;
  config.hidden_act = Activation::gelu_new;
  const std::string pre = to_hugging_face_json(config, {"ForMaskedLM"});
  EXPECT_EQ(from_hugging_face_json(pre, "x"), config);
  EXPECT_EQ(nlohmann::json::parse(pre)["model_type"], "megatron-bert");
  EXPECT_EQ(nlohmann::json::parse(pre)["architectures"][0], "MegatronBertForMaskedLM");
}

TEST(BertConfig, HuggingFaceDefaultsAndNames) {
  // google-research/bert: no model_type; transformers: erf where hidden_act is absent.
  const BertConfig config = from_hugging_face_json(R"({"vocab_size": 28996})", "x");
  EXPECT_EQ(config.vocab_size, 28996);
  EXPECT_EQ(config.hidden_act, Activation::gelu);
  EXPECT_EQ(config.hidden_size, 768);
  const BertConfig megatron = from_hugging_face_json(R"({"model_type": "megatron-bert"})", "x");
  EXPECT_EQ(megatron.hidden_size, 1024);
  EXPECT_EQ(megatron.vocab_size, 29056);
  for (const char* name : {"gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"}) {
    EXPECT_EQ(activation_from_name(name), Activation::gelu_new) << name;
  }
  // Keys that change nothing here; a null is as good as absent.
  EXPECT_NO_THROW(from_hugging_face_json(
      R"({"use_cache": true, "classifier_dropout": null, "type_vocab_size": null,
          "id2label": {"0": "a"}, "pruned_heads": {}, "quantization_config": null,
          "auto_map": {"AutoTokenizer": ["a.B", null]}, "transformers_version": "4.6.0", "hidden_dropout_prob": 0})",
      "x"));
}

TEST(BertConfig, HuggingFaceJsonOfAnotherModelIsRefused) {
  const auto message = [](const std::string& text) {
    return input_error([&] { from_hugging_face_json(text, "m/config.json"); });
  };
  for (const char* text :
       {R"({"model_type": "roberta"})", R"({"position_embedding_type": "relative_key"})",
        R"({"is_decoder": true})", R"({"tie_word_embeddings": false})", R"({"hidden_act": "relu"})",
        R"({"hidden_size": "768"})", R"({"hidden_size": 100})", R"({"num_hidden_layers": 1.5})",
        R"({"hidden_act": "gelu_10"})", R"({"hidden_dropout_prob": true})",
        R"({"pruned_heads": {"1": [0, 2]}})", R"({"quantization_config": {"bits": 4}})",
        R"({"auto_map": {"AutoModel": "a.B"}})", R"([1])", R"({"hidden_size": 768)", ""}) {
    expect_contains(message(text), "m/config.json");
  }
  expect_contains(message(R"({"model_type": "roberta"})"), "expected \"bert\"");
  expect_contains(message(R"({"hidden_size": "768"})"), "hidden_size is \"768\"");
  expect_contains(message(R"({"hidden_act": "relu"})"), "'relu'");
}

}  // namespace
}  // namespace bert
