#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/ranges.h>

#include "data/tokenization/hf_tokenizer_json.h"
#include "data/tokenization/sentencepiece_tokenizer.h"
#include "data/tokenization/wire_format.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using hf::Json;

constexpr const char* kModelFile = "spiece.model";
constexpr std::string_view kWordStart = "\xe2\x96\x81";

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = (group << 8) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += i + k <= bytes.size() ? kDigits[(group >> (18 - 6 * k)) & 63] : '=';
    }
  }
  return text;
}

// What tokenizer.json needs out of a serialized ModelProto (sentencepiece_model.proto).
struct Model {
  struct Piece {
    std::string_view text;
    float score = 0;
  };
  std::vector<Piece> pieces;
  bool is_bpe = false, byte_fallback = false;
  std::string_view charsmap;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true;
};

Model read_model(std::string_view bytes) {
  Model model;
  WireReader reader(bytes);
  while (const auto field = reader.next()) {
    WireReader inner(field->bytes);
    if (field->number == 1) {
      Model::Piece piece;
      while (const auto part = inner.next()) {
        if (part->number == 1) piece.text = part->bytes;
        if (part->number == 2) piece.score = part->as_float();
      }
      model.pieces.push_back(piece);
    } else if (field->number == 2) {  // trainer_spec
      while (const auto part = inner.next()) {
        if (part->number == 3) model.is_bpe = part->value == 2;
        if (part->number == 35) model.byte_fallback = part->value != 0;
      }
    } else if (field->number == 3) {  // normalizer_spec
      while (const auto part = inner.next()) {
        if (part->number == 2) model.charsmap = part->bytes;
        if (part->number == 3) model.add_dummy_prefix = part->value != 0;
        if (part->number == 4) model.remove_extra_whitespaces = part->value != 0;
      }
    }
  }
  BERT_CHECK(reader.ok(), "a SentencePiece model that was loaded can be read");
  return model;
}

Json unigram_model(const Model& model, const Tokenizer& tokenizer) {
  Json json;
  json["type"] = "Unigram";
  json["unk_id"] = tokenizer.special().unk;
  json["vocab"] = Json::array();
  for (const Model::Piece& piece : model.pieces) {
    json["vocab"].push_back(Json::array({piece.text, static_cast<double>(piece.score)}));
  }
  json["byte_fallback"] = model.byte_fallback;
  return json;
}

// SentencePiece joins two neighbours whenever a piece is spelled so, the best scored piece first:
// every way to cut a piece in two is a merge.
Json bpe_model(const Model& model, const Tokenizer& tokenizer) {
  Json json;
  json["type"] = "BPE";
  json["dropout"] = nullptr;
  json["unk_token"] = tokenizer.piece(tokenizer.special().unk);
  json["continuing_subword_prefix"] = json["end_of_word_suffix"] = nullptr;
  json["fuse_unk"] = true;
  json["byte_fallback"] = model.byte_fallback;
  json["ignore_merges"] = false;
  json["vocab"] = hf::vocab_map(tokenizer);
  std::vector<std::pair<std::string_view, std::int32_t>> sorted;
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    sorted.emplace_back(model.pieces[i].text, static_cast<std::int32_t>(i));
  }
  std::sort(sorted.begin(), sorted.end());
  const auto id_of = [&](std::string_view text) {
    const auto found = std::lower_bound(sorted.begin(), sorted.end(), std::pair{text, 0});
    return found != sorted.end() && found->first == text ? found->second : -1;
  };
  std::vector<const Model::Piece*> by_score;
  for (const Model::Piece& piece : model.pieces) by_score.push_back(&piece);
  std::stable_sort(by_score.begin(), by_score.end(),
                   [](const auto* a, const auto* b) { return a->score > b->score; });
  Json& merges = json["merges"] = Json::array();
  for (const Model::Piece* piece : by_score) {
    std::vector<std::pair<std::int32_t, std::int32_t>> cuts;
    for (std::size_t cut = 1; cut < piece->text.size(); ++cut) {
      const std::pair ids{id_of(piece->text.substr(0, cut)), id_of(piece->text.substr(cut))};
      if (ids.first >= 0 && ids.second >= 0) cuts.push_back(ids);
    }
    std::sort(cuts.begin(), cuts.end());
    for (const auto& [first, second] : cuts) {
      merges.push_back(Json::array({tokenizer.piece(first), tokenizer.piece(second)}));
    }
  }
  return json;
}

Json normalizer_json(const Model& model) {
  Json steps = Json::array();
  if (!model.charsmap.empty()) {
    Json step;
    step["type"] = "Precompiled";
    step["precompiled_charsmap"] = base64(model.charsmap);
    steps.push_back(std::move(step));
  }
  if (model.remove_extra_whitespaces) {
    Json collapse, strip;
    collapse["type"] = "Replace";
    collapse["pattern"]["Regex"] = " {2,}";
    collapse["content"] = " ";
    strip["type"] = "Strip";
    strip["strip_left"] = strip["strip_right"] = true;
    steps.push_back(std::move(collapse));
    steps.push_back(std::move(strip));
  }
  Json json;
  json["type"] = "Sequence";
  json["normalizers"] = std::move(steps);
  return json;
}

Json tokenizer_json(const SentencepieceTokenizer& tokenizer) {
  const Model model = read_model(tokenizer.model());
  Json metaspace;
  metaspace["type"] = "Metaspace";
  metaspace["replacement"] = kWordStart;
  metaspace["prepend_scheme"] = model.add_dummy_prefix ? "always" : "never";
  metaspace["split"] = true;
  return hf::tokenizer_json(
      tokenizer, normalizer_json(model), metaspace, metaspace,
      model.is_bpe ? bpe_model(model, tokenizer) : unigram_model(model, tokenizer));
}

// Tokenizers that wrap a SentencePiece model in normalisation or ids of their own are not read:
// only those that take it as it is.
void check_config(const fs::path& file, const hf::ParsedJson& config) {
  constexpr std::string_view kPlain[] = {"PreTrainedTokenizerFast", "PreTrainedTokenizer",
                                         "TokenizersBackend", "BertGenerationTokenizer"};
  const std::string name = config.value("tokenizer_class", std::string(kPlain[0]));
  if (std::find(std::begin(kPlain), std::end(kPlain), name) == std::end(kPlain)) {
    throw_input_error(
        "{}: a {} does more than its SentencePiece model says; expected one of {}. Where the model "
        "alone is meant, name the .model file",
        file.string(), name, fmt::join(kPlain, ", "));
  }
}

}  // namespace

fs::path find_sentencepiece_model(const fs::path& folder) {
  fs::path found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".model") continue;
    if (!found.empty()) {
      throw_input_error(
          "{} holds more than one SentencePiece model ({} and {}); name the one that "
          "is meant",
          folder.string(), std::min(found, entry.path()).filename().string(),
          std::max(found, entry.path()).filename().string());
    }
    found = entry.path();
  }
  return found;
}

std::unique_ptr<SentencepieceTokenizer> load_sentencepiece(const fs::path& path) {
  fs::path model = path;
  SpecialTokenNames names;
  if (fs::is_directory(path)) {
    model = find_sentencepiece_model(path);
    if (model.empty()) throw_input_error("{} holds no SentencePiece .model", path.string());
    const fs::path config_file = path / "tokenizer_config.json";
    if (fs::exists(config_file)) {
      try {
        const hf::ParsedJson config = hf::read_json(config_file);
        check_config(config_file, config);
        hf::read_special_names(config, names);
      } catch (const hf::ParsedJson::exception& error) {
        throw_input_error("{} does not describe a tokenizer: {}", config_file.string(),
                          error.what());
      }
    }
  }
  return std::make_unique<SentencepieceTokenizer>(read_file(model), model.string(), names);
}

void save_sentencepiece(const SentencepieceTokenizer& tokenizer, const fs::path& folder) {
  make_directories(folder);
  Json config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["sentencepiece_model"] = kModelFile;
  config["model_input_names"] = Json::array({"input_ids", "token_type_ids", "attention_mask"});
  config.update(hf::special_token_names(tokenizer));
  write_file_atomic(folder / kModelFile, tokenizer.model());
  hf::write_json(folder / "tokenizer.json", tokenizer_json(tokenizer));
  hf::write_json(folder / "tokenizer_config.json", config);
  hf::write_json(folder / "special_tokens_map.json", hf::special_token_names(tokenizer));
}

}  // namespace bert
