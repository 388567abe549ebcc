// BertConfig: what a BERT is made of, under Hugging Face's configuration keys, and its config.json.
//
// Devlin et al. 2019 (post-LN). Pre-LN, where LayerNorm stands inside each branch (Xiong et al.
// 2020; Shoeybi et al. 2019), is Hugging Face's model_type "megatron-bert".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"

namespace bert {

enum class LayerNormPlacement { post, pre };

// truncated_normal: google-research/bert, nothing beyond two standard deviations. normal: Hugging
// Face. Either way biases are 0 and LayerNorms are 1 and 0.
enum class WeightInit { truncated_normal, normal };

struct BertConfig {
  std::int64_t vocab_size = 30522;
  std::int64_t hidden_size = 768;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t intermediate_size = 3072;
  Activation hidden_act = Activation::gelu_new;  // gelu_new (tanh, google's) or gelu (erf)
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  std::int64_t max_position_embeddings = 512;
  std::int64_t type_vocab_size = 2;
  double initializer_range = 0.02;
  double layer_norm_eps = 1e-12;

  std::optional<double> classifier_dropout{};  // before a task's head; nothing: as hidden states

  LayerNormPlacement layer_norm = LayerNormPlacement::post;
  WeightInit init = WeightInit::truncated_normal;  // not part of config.json

  bool pre_layer_norm() const { return layer_norm == LayerNormPlacement::pre; }
  std::int64_t head_size() const { return hidden_size / num_attention_heads; }
  double head_dropout() const { return classifier_dropout.value_or(hidden_dropout_prob); }

  bool operator==(const BertConfig&) const = default;

  // InputError naming the key, its value and what was expected.
  void validate() const;
};

// bert_tiny 2x128, bert_mini 4x256, bert_small 4x512 (Turc et al. 2019), bert_base 12x768,
// bert_large 24x1024: layers x hidden size, heads of 64, vocabulary 30,522, the defaults of
// BertConfig elsewhere. InputError naming the presets for any other name.
BertConfig bert_preset(std::string_view name);
const std::vector<std::string>& bert_preset_names();

// Names as they are written in configurations: "gelu", "gelu_new"; "post", "pre"; ...
// activation_from_name also takes Hugging Face's other names of the same functions
// ("gelu_pytorch_tanh", "gelu_python"). InputError for a name that is none of them.
std::string_view activation_name(Activation activation);
Activation activation_from_name(std::string_view name);
std::string_view layer_norm_name(LayerNormPlacement placement);
std::string_view weight_init_name(WeightInit init);

// What a config.json says of the model's head.
struct HeadDescription {
  // The class from_pretrained should make, without its prefix "Bert" or "MegatronBert":
  // "ForPreTraining", "ForMaskedLM", "Model", "ForSequenceClassification", ...; empty if not said.
  std::string architecture{};
  std::vector<std::string> labels{};  // id2label; empty: none are kept
  bool regression = false;            // problem_type, of ForSequenceClassification
  bool multi_label = false;           // the same; read only: there is no such model here
};

// The text of a Hugging Face config.json. `pad_token_id` is the tokenizer's.
std::string to_hugging_face_json(const BertConfig& config, const HeadDescription& head,
                                 std::int32_t pad_token_id = 0);

// Reads such a text; `source` (a path) is named in errors. Keys that do not change the mathematics
// are ignored; keys that ask for another model (relative positions, a decoder, another activation
// or model_type) are an InputError.
BertConfig from_hugging_face_json(std::string_view text, const std::string& source);
// What the same text says of the head; the labels that Hugging Face makes up ("LABEL_0", ...) are
// labels too.
HeadDescription head_from_hugging_face_json(std::string_view text, const std::string& source);

}  // namespace bert
