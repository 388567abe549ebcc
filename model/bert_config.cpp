#include "model/bert_config.h"

#include <cmath>
#include <limits>

#include <nlohmann/json.hpp>

#include "runtime/json.h"

namespace bert {
namespace {

using Json = nlohmann::ordered_json;

struct Preset {
  const char* name;
  std::int64_t layers, hidden;
};
constexpr Preset kPresets[] = {{"bert_tiny", 2, 128},
                               {"bert_mini", 4, 256},
                               {"bert_small", 4, 512},
                               {"bert_base", 12, 768},
                               {"bert_large", 24, 1024}};

void check_integer(const char* key, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    throw_input_error("{} is {}: expected an integer from {} to {}", key, value, least, most);
  }
}

void check_probability(const char* key, double value) {
  if (!(value >= 0.0 && value < 1.0)) {
    throw_input_error("{} is {}: expected a probability, 0 <= p < 1", key, value);
  }
}

// A key of a config.json with its type checked; absent and null leave `value` as it is.
class JsonKeys {
 public:
  JsonKeys(const Json& json, const std::string& source) : json_(json), source_(source) {}

  const Json* find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  void read(const char* key, std::int64_t& value) const {
    if (const Json* found = find(key)) {
      value = json_integer<std::int64_t>(*found, source_ + ": " + key);
    }
  }
  void read(const char* key, double& value) const {
    if (const Json* found = find(key)) {
      if (!found->is_number()) wrong(key, *found, "a number");
      value = found->get<double>();
    }
  }
  void read(const char* key, std::string& value) const {
    if (const Json* found = find(key)) {
      if (!found->is_string()) wrong(key, *found, "a string");
      value = found->get<std::string>();
    }
  }
  void read(const char* key, std::vector<std::string>& value) const {
    if (const Json* found = find(key)) {
      if (!found->is_array()) wrong(key, *found, "a list of strings");
      for (const Json& element : *found) {
        if (!element.is_string()) wrong(key, *found, "a list of strings");
        value.push_back(element.get<std::string>());
      }
    }
  }
  void read(const char* key, bool& value) const {
    if (const Json* found = find(key)) {
      if (!found->is_boolean()) wrong(key, *found, "true or false");
      value = found->get<bool>();
    }
  }
  [[noreturn]] void wrong(const char* key, const Json& value, const char* expected) const {
    throw_input_error("{}: {} is {}: expected {}", source_, key, value.dump(), expected);
  }

 private:
  const Json& json_;
  const std::string& source_;
};

}  // namespace

void BertConfig::validate() const {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  check_integer("vocab_size", vocab_size, 1, kMost);
  check_integer("hidden_size", hidden_size, 1, 1 << 16);
  check_integer("num_hidden_layers", num_hidden_layers, 1, 1024);
  check_integer("num_attention_heads", num_attention_heads, 1, 1 << 16);
  check_integer("intermediate_size", intermediate_size, 1, 1 << 20);
  check_integer("max_position_embeddings", max_position_embeddings, 1, 1 << 20);
  check_integer("type_vocab_size", type_vocab_size, 1, 1 << 16);
  if (hidden_size % num_attention_heads != 0) {
    throw_input_error(
        "hidden_size is {} and num_attention_heads {}: hidden_size must be a multiple of "
        "num_attention_heads",
        hidden_size, num_attention_heads);
  }
  if (hidden_act != Activation::gelu && hidden_act != Activation::gelu_new) {
    throw_input_error("hidden_act is {}: expected gelu or gelu_new", activation_name(hidden_act));
  }
  check_probability("hidden_dropout_prob", hidden_dropout_prob);
  check_probability("attention_probs_dropout_prob", attention_probs_dropout_prob);
  check_probability("classifier_dropout", head_dropout());
  if (!(initializer_range > 0.0 && initializer_range <= 1.0)) {
    throw_input_error("initializer_range is {}: expected 0 < initializer_range <= 1",
                      initializer_range);
  }
  if (!(layer_norm_eps > 0.0 && layer_norm_eps <= 1.0)) {
    throw_input_error("layer_norm_eps is {}: expected 0 < layer_norm_eps <= 1", layer_norm_eps);
  }
}

const std::vector<std::string>& bert_preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Preset& preset : kPresets) list.emplace_back(preset.name);
    return list;
  }();
  return names;
}

BertConfig bert_preset(std::string_view name) {
  for (const Preset& preset : kPresets) {
    if (name != preset.name) continue;
    BertConfig config;
    config.num_hidden_layers = preset.layers;
    config.hidden_size = preset.hidden;
    config.num_attention_heads = preset.hidden / 64;
    config.intermediate_size = 4 * preset.hidden;
    return config;
  }
  throw_input_error("there is no preset '{}': expected one of {}", name,
                    fmt::join(bert_preset_names(), ", "));
}

std::string_view activation_name(Activation activation) {
  switch (activation) {
    case Activation::none:
      return "none";
    case Activation::gelu:
      return "gelu";
    case Activation::gelu_new:
      return "gelu_new";
    case Activation::tanh:
      return "tanh";
  }
  return "?";
}

Activation activation_from_name(std::string_view name) {
  if (name == "gelu" || name == "gelu_python") return Activation::gelu;
  for (const char* tanh_form :
       {"gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"}) {
    if (name == tanh_form) return Activation::gelu_new;
  }
  throw_input_error(
      "'{}' is not an activation of this program: expected gelu (erf) or gelu_new "
      "(tanh; also called gelu_pytorch_tanh)",
      name);
}

std::string_view layer_norm_name(LayerNormPlacement placement) {
  return placement == LayerNormPlacement::post ? "post" : "pre";
}

std::string_view weight_init_name(WeightInit init) {
  return init == WeightInit::truncated_normal ? "truncated_normal" : "normal";
}

std::string to_hugging_face_json(const BertConfig& config, const HeadDescription& head,
                                 std::int32_t pad_token_id) {
  const bool pre = config.layer_norm == LayerNormPlacement::pre;
  Json json;
  json["architectures"] = Json::array({(pre ? "MegatronBert" : "Bert") + head.architecture});
  json["model_type"] = pre ? "megatron-bert" : "bert";
  json["vocab_size"] = config.vocab_size;
  json["hidden_size"] = config.hidden_size;
  json["num_hidden_layers"] = config.num_hidden_layers;
  json["num_attention_heads"] = config.num_attention_heads;
  json["intermediate_size"] = config.intermediate_size;
  json["hidden_act"] = activation_name(config.hidden_act);
  json["hidden_dropout_prob"] = config.hidden_dropout_prob;
  json["attention_probs_dropout_prob"] = config.attention_probs_dropout_prob;
  json["max_position_embeddings"] = config.max_position_embeddings;
  json["type_vocab_size"] = config.type_vocab_size;
  json["initializer_range"] = config.initializer_range;
  json["layer_norm_eps"] = config.layer_norm_eps;
  json["pad_token_id"] = pad_token_id;
  json["position_embedding_type"] = "absolute";
  json["tie_word_embeddings"] = true;
  // megatron-bert does not know the key, and takes hidden_dropout_prob.
  if (config.classifier_dropout) {
    json["classifier_dropout"] = *config.classifier_dropout;
  } else if (!pre) {
    json["classifier_dropout"] = nullptr;
  }
  if (!head.labels.empty()) {
    for (std::size_t i = 0; i < head.labels.size(); ++i) {
      json["id2label"][std::to_string(i)] = head.labels[i];
      json["label2id"][head.labels[i]] = i;
    }
  }
  if (head.architecture == "ForSequenceClassification") {
    json["problem_type"] = head.regression ? "regression" : "single_label_classification";
  }
  return json.dump(2) + "\n";
}

BertConfig from_hugging_face_json(std::string_view text, const std::string& source) {
  const auto json = parse_json<Json>(text, source);
  if (!json.is_object()) throw_input_error("{}: expected a JSON object", source);
  const JsonKeys keys(json, source);

  // What transformers assumes where a key is absent. A config.json of google-research/bert has no
  // model_type.
  BertConfig config;
  config.hidden_act = Activation::gelu;
  std::string model_type = "bert";
  keys.read("model_type", model_type);
  if (model_type == "megatron-bert") {
    config.layer_norm = LayerNormPlacement::pre;
    config.vocab_size = 29056;
    config.hidden_size = 1024;
    config.num_hidden_layers = 24;
    config.num_attention_heads = 16;
    config.intermediate_size = 4096;
  } else if (model_type != "bert") {
    throw_input_error(
        "{}: model_type is \"{}\": expected \"bert\" (post-LN) or \"megatron-bert\" (pre-LN)",
        source, model_type);
  }

  keys.read("vocab_size", config.vocab_size);
  keys.read("hidden_size", config.hidden_size);
  keys.read("num_hidden_layers", config.num_hidden_layers);
  keys.read("num_attention_heads", config.num_attention_heads);
  keys.read("intermediate_size", config.intermediate_size);
  keys.read("hidden_dropout_prob", config.hidden_dropout_prob);
  keys.read("attention_probs_dropout_prob", config.attention_probs_dropout_prob);
  keys.read("max_position_embeddings", config.max_position_embeddings);
  keys.read("type_vocab_size", config.type_vocab_size);
  keys.read("initializer_range", config.initializer_range);
  keys.read("layer_norm_eps", config.layer_norm_eps);
  if (keys.find("classifier_dropout") != nullptr) {
    keys.read("classifier_dropout", config.classifier_dropout.emplace(0.0));
  }

  std::string positions = "absolute";
  keys.read("position_embedding_type", positions);
  if (positions != "absolute") {
    keys.wrong("position_embedding_type", positions, "\"absolute\", the only one available");
  }
  for (const char* key : {"is_decoder", "add_cross_attention"}) {
    bool wanted = false;
    keys.read(key, wanted);
    if (wanted) keys.wrong(key, true, "false: this program knows encoders only");
  }
  // Weights of other shapes or encodings, and code of the model's own.
  const auto refuse_unless_empty = [&](const char* key, const Json* found, const char* expected) {
    if (found != nullptr && !found->empty()) keys.wrong(key, *found, expected);
  };
  refuse_unless_empty("pruned_heads", keys.find("pruned_heads"), "all heads of all layers");
  refuse_unless_empty("quantization_config", keys.find("quantization_config"),
                      "weights that are not quantized");
  if (const Json* map = keys.find("auto_map"); map != nullptr && map->is_object()) {
    for (const auto& [name, code] : map->items()) {
      if (name.starts_with("AutoModel")) {
        keys.wrong("auto_map", *map, "a model without code of its own");
      }
    }
  }
  bool tied = true;
  keys.read("tie_word_embeddings", tied);
  if (!tied)
    keys.wrong("tie_word_embeddings", false, "true: the decoder is tied to the embeddings");

  std::string activation(activation_name(config.hidden_act));
  keys.read("hidden_act", activation);
  try {
    config.hidden_act = activation_from_name(activation);
    config.validate();
  } catch (const InputError& error) {
    throw_input_error("{}: {}", source, error.what());
  }
  return config;
}

HeadDescription head_from_hugging_face_json(std::string_view text, const std::string& source) {
  const auto json = parse_json<Json>(text, source);
  const JsonKeys keys(json, source);
  HeadDescription head;
  std::vector<std::string> architectures;
  keys.read("architectures", architectures);
  if (!architectures.empty()) {
    head.architecture = architectures.front();
    const std::size_t prefix = head.architecture.find("Bert");
    if (prefix != std::string::npos) head.architecture.erase(0, prefix + 4);
  }
  std::string problem_type;
  keys.read("problem_type", problem_type);
  head.regression = problem_type == "regression";
  head.multi_label = problem_type == "multi_label_classification";
  const Json* const names = keys.find("id2label");
  for (std::size_t i = 0; names != nullptr && i < names->size(); ++i) {
    const auto name = names->find(std::to_string(i));
    if (!names->is_object() || name == names->end() || !name->is_string()) {
      keys.wrong("id2label", *names, "an object with a name for each of \"0\", \"1\", ...");
    }
    head.labels.push_back(name->get<std::string>());
  }
  return head;
}

}  // namespace bert
