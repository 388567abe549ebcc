#include "train/inference/text_embedder.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/named_values.h"
#include "runtime/tensor_copy.h"
#include "train/tasks/task_sequences.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

using nlohmann::json;

constexpr Named<Pooling> kPoolings[] = {{Pooling::cls, "cls"},
                                        {Pooling::mean, "mean"},
                                        {Pooling::pooler, "pooler"},
                                        {Pooling::tokens, "tokens"}};

constexpr const char* kWayOut = "give the pooling yourself, or use another model";

json read_json_file(const fs::path& file) {
  return parse_json<json>(read_file(file), file.string());
}

// 1_Pooling/config.json: one of its pooling_mode_* is true. Newer files have a pooling_mode.
Pooling read_pooling(const fs::path& file) {
  const json config = read_json_file(file);
  if (!config.is_object()) throw_input_error("{} is not an object", file.string());
  std::vector<std::string> modes;
  for (const auto& [key, value] : config.items()) {
    if (key == "pooling_mode" && value.is_string()) modes.push_back(value);
    if (key.starts_with("pooling_mode_") && value.is_boolean() && value.get<bool>()) {
      modes.push_back(key.substr(std::string_view("pooling_mode_").size()));
    }
  }
  if (modes.size() == 1 && (modes[0] == "cls" || modes[0] == "cls_token")) return Pooling::cls;
  if (modes.size() == 1 && (modes[0] == "mean" || modes[0] == "mean_tokens")) return Pooling::mean;
  throw_input_error("{} asks for pooling by {}: only cls and mean are done here; {}", file.string(),
                    modes.empty() ? "nothing" : fmt::format("{}", fmt::join(modes, " and ")),
                    kWayOut);
}

// sentence_bert_config.json.
std::optional<std::int64_t> read_max_length(const fs::path& file) {
  const json config = read_json_file(file);
  if (config.is_object() && config.value("do_lower_case", json(false)) == true) {
    throw_input_error(
        "{}: do_lower_case is true: lower-casing before the tokenizer is not done here",
        file.string());
  }
  if (!config.is_object() || !config.contains("max_seq_length") ||
      config["max_seq_length"].is_null()) {
    return std::nullopt;
  }
  return json_integer<std::int64_t>(config["max_seq_length"], file.string() + ": max_seq_length");
}

// One step of modules.json.
void read_module(const fs::path& folder, const json& module, EmbeddingOptions& options) {
  const fs::path file = folder / "modules.json";
  if (!module.is_object() || !module.value("type", json()).is_string() ||
      !module.value("path", json()).is_string()) {
    throw_input_error("{}: a module is not an object with type and path", file.string());
  }
  const std::string type = module["type"];
  const std::string name = type.substr(type.rfind('.') + 1);
  if (name == "Pooling") {
    options.pooling = read_pooling(folder / module["path"].get<std::string>() / "config.json");
  } else if (name == "Normalize") {
    options.normalize = true;
  } else if (name != "Transformer") {
    throw_input_error("{} asks for {}: only Transformer, Pooling and Normalize are done here; {}",
                      file.string(), type, kWayOut);
  }
}

void scale(std::span<double> vector, double factor) {
  for (double& value : vector) value *= factor;
}

// Sums and scales in f64: a long text's mean is of hundreds of vectors.
class RowPooler {
 public:
  RowPooler(const std::vector<double>& states, std::int64_t width, bool normalize)
      : states_(states), sum_(static_cast<std::size_t>(width)), normalize_(normalize) {}

  // The mean of rows [first, end).
  void append_mean(std::int64_t first, std::int64_t end, std::vector<float>& out) {
    std::fill(sum_.begin(), sum_.end(), 0.0);
    for (std::int64_t row = first; row < end; ++row) {
      const double* const state = states_.data() + static_cast<std::size_t>(row) * sum_.size();
      for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] += state[i];
    }
    scale(sum_, 1.0 / static_cast<double>(end - first));
    if (normalize_) normalize();
    out.insert(out.end(), sum_.begin(), sum_.end());
  }

 private:
  void normalize() {
    constexpr double kLeast = 1e-12;  // as torch's normalize
    double square = 0.0;
    for (const double value : sum_) square += value * value;
    scale(sum_, 1.0 / std::max(std::sqrt(square), kLeast));
  }

  const std::vector<double>& states_;
  std::vector<double> sum_;
  bool normalize_;
};

}  // namespace

std::string_view pooling_name(Pooling pooling) { return name_of(kPoolings, pooling); }

Pooling parse_pooling(std::string_view name) { return parse_name(kPoolings, name, "pooling"); }

EmbeddingOptions complete_from_folder(const EmbeddingOptions& options, const fs::path& folder) {
  EmbeddingOptions complete = options;
  const fs::path modules = folder / "modules.json", length = folder / "sentence_bert_config.json";
  std::error_code unreadable;  // which is said once the model is read
  if (!options.pooling && fs::exists(modules, unreadable)) {
    const json list = read_json_file(modules);
    if (!list.is_array()) throw_input_error("{} is not a list of modules", modules.string());
    for (const json& module : list) read_module(folder, module, complete);
    if (options.normalize) complete.normalize = options.normalize;
  }
  if (!options.max_length && fs::exists(length, unreadable))
    complete.max_length = read_max_length(length);
  return complete;
}

std::unique_ptr<BertModel> make_embedding_model(const fs::path& folder, Pooling pooling) {
  const ModelDescription description = describe_model(folder);
  if (pooling == Pooling::pooler && !description.has_pooler) {
    throw_input_error("{} has no pooler: choose cls or mean", folder.string());
  }
  return std::make_unique<BertModel>(description.config, pooling == Pooling::pooler);
}

TextEmbedder::TextEmbedder(InferenceSession& session, const EmbeddingOptions& options)
    : session_(session),
      pooling_(options.pooling.value_or(Pooling::mean)),
      normalize_(options.normalize.value_or(false)),
      max_length_(options.max_length.value_or(session.model().capacity().max_seqlen)) {
  const std::int64_t longest = session.model().config().max_position_embeddings;
  if (max_length_ < 3 || max_length_ > longest) {
    throw_input_error("max_length is {} tokens: expected 3 to {}, what the model of {} takes",
                      max_length_, longest, session.checkpoint().string());
  }
  BERT_CHECK(max_length_ <= session.model().capacity().max_seqlen);
  if (pooling_ == Pooling::pooler && !session.model().has_pooler()) {
    throw_input_error("the model of {} has no pooler: choose cls or mean",
                      session.checkpoint().string());
  }
}

TaskSequence TextEmbedder::sequence(std::string_view text, std::int64_t& cut) const {
  std::vector<Token> tokens;
  session_.tokenizer().encode(text, tokens);
  const auto room = static_cast<std::size_t>(max_length_ - 2);
  if (tokens.size() > room) ++cut;
  return assemble_sequence(session_.tokenizer().special(),
                           std::span(tokens).first(std::min(tokens.size(), room)), {},
                           /*is_pair=*/false);
}

std::vector<float> TextEmbedder::embed(const Batch& batch) {
  BertModel& model = session_.model();
  model.forward(session_.memory().upload(batch), nullptr);
  const bool pooled = pooling_ == Pooling::pooler;
  const std::vector<double> states =
      pooled ? copy_to_doubles(session_.device(), model.pooled().slice(0, batch.num_sequences()))
             : copy_to_doubles(session_.device(), model.hidden().slice(0, batch.num_tokens()));
  RowPooler pooler(states, width(), normalize_);
  std::vector<float> vectors;
  const auto append_each = [&](std::int64_t rows) {
    for (std::int64_t row = 0; row < rows; ++row) pooler.append_mean(row, row + 1, vectors);
  };
  if (pooled) {
    append_each(batch.num_sequences());
  } else if (pooling_ == Pooling::tokens) {
    append_each(batch.num_tokens());
  } else {
    for (std::size_t b = 0; b + 1 < batch.cu_seqlens.size(); ++b) {
      const std::int64_t first = batch.cu_seqlens[b], end = batch.cu_seqlens[b + 1];
      pooler.append_mean(first, pooling_ == Pooling::cls ? first + 1 : end, vectors);
    }
  }
  return vectors;
}

}  // namespace bert
