#include "data/wordpiece_files.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kModeKey = "tokenizer_mode";  // ours; absent means huggingface

Json read_json(const fs::path& file) {
  try {
    return Json::parse(read_file(file));
  } catch (const Json::exception& error) {
    throw_input_error("{} is not valid JSON: {}", file.string(), error.what());
  }
}

// The value at a key, or nothing where it is absent or null.
template <typename Value>
std::optional<Value> get(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<Value>();
}

std::vector<std::string> read_vocab(const fs::path& file) {
  const std::string content = read_file(file);
  std::vector<std::string> pieces;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t newline = std::min(content.find('\n', begin), content.size());
    std::string_view line(content.data() + begin, newline - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    pieces.emplace_back(line);
    begin = newline + 1;
  }
  while (!pieces.empty() && pieces.back().empty()) pieces.pop_back();
  return pieces;
}

// Special tokens stand as text, or as an object with the text as its content.
void read_special_names(const Json& config, SpecialTokenNames& names) {
  const auto read = [&](const char* key, std::string& name) {
    const auto found = config.find(key);
    if (found == config.end()) return;
    if (found->is_string()) name = found->get<std::string>();
    if (found->is_object()) name = found->at("content").get<std::string>();
  };
  read("pad_token", names.pad);
  read("unk_token", names.unk);
  read("cls_token", names.cls);
  read("sep_token", names.sep);
  read("mask_token", names.mask);
}

// What tokenizer_config.json or special_tokens_map.json says, over what `options` held before.
void read_config(const fs::path& file, WordpieceOptions& options) {
  const Json config = read_json(file);
  if (const auto name = get<std::string>(config, "tokenizer_class")) {
    if (*name == "BertJapaneseTokenizer" || *name == "BertweetTokenizer") {
      throw_input_error("{}: a {} cannot be read; expected a BertTokenizer", file.string(), *name);
    }
  }
  WordSplitterOptions& splitter = options.splitter;
  if (const auto lower = get<bool>(config, "do_lower_case")) {
    splitter.lowercase = splitter.strip_accents = *lower;
  }
  if (const auto strip = get<bool>(config, "strip_accents")) splitter.strip_accents = *strip;
  if (const auto split = get<bool>(config, "tokenize_chinese_chars")) {
    splitter.split_ideographs = *split;
  }
  if (const auto mode = get<std::string>(config, kModeKey)) {
    splitter.mode = parse_compat_mode(*mode);
    options.max_word_chars = wordpiece_options(false, splitter.mode).max_word_chars;
  }
  read_special_names(config, options.special);
}

[[noreturn]] void throw_foreign(const fs::path& file, std::string_view part, const Json& found,
                                std::string_view expected) {
  throw_input_error("{}: its {} is {}; expected {}, as BERT's tokenizers have it", file.string(),
                    part, found.is_object() ? found.value("type", "of no type") : "missing",
                    expected);
}

// Pieces in the order of their ids out of a map from piece to id.
std::vector<std::string> order_pieces(const fs::path& file, const Json& vocab, const Json& added) {
  std::vector<std::pair<std::string, std::int64_t>> entries;
  for (const auto& [text, id] : vocab.items()) {
    entries.emplace_back(text, id.template get<std::int64_t>());
  }
  for (const Json& token : added) {
    if (!vocab.contains(token.at("content").get<std::string>())) {
      entries.emplace_back(token.at("content").get<std::string>(),
                           token.at("id").get<std::int64_t>());
    }
  }
  std::vector<std::string> pieces(entries.size());
  for (auto& [text, id] : entries) {
    if (id < 0 || id >= static_cast<std::int64_t>(pieces.size()) ||
        !pieces[static_cast<std::size_t>(id)].empty()) {
      throw_input_error(
          "{}: the id {} of '{}' is out of range or used twice; expected the ids 0 to "
          "{}, each once",
          file.string(), id, text, pieces.size() - 1);
    }
    pieces[static_cast<std::size_t>(id)] = std::move(text);
  }
  return pieces;
}

// tokenizer.json: the pieces, and what it says about splitting.
std::vector<std::string> read_tokenizer_json(const fs::path& file, WordpieceOptions& options) {
  const Json json = read_json(file);
  const Json null;
  const auto part = [&](const char* key) -> const Json& {
    const auto found = json.find(key);
    return found == json.end() ? null : *found;
  };
  const auto has_type = [](const Json& object, std::string_view type) {
    return object.is_object() && object.value("type", "") == type;
  };
  const Json &model = part("model"), &normalizer = part("normalizer");
  if (!has_type(model, "WordPiece")) throw_foreign(file, "model", model, "WordPiece");
  if (!has_type(normalizer, "BertNormalizer")) {
    throw_foreign(file, "normalizer", normalizer, "BertNormalizer");
  }
  if (!has_type(part("pre_tokenizer"), "BertPreTokenizer")) {
    throw_foreign(file, "pre_tokenizer", part("pre_tokenizer"), "BertPreTokenizer");
  }
  if (const auto prefix = get<std::string>(model, "continuing_subword_prefix").value_or("##");
      prefix != "##") {
    throw_input_error("{}: continuing pieces begin with '{}'; expected '##'", file.string(),
                      prefix);
  }
  WordSplitterOptions& splitter = options.splitter;
  splitter.lowercase = get<bool>(normalizer, "lowercase").value_or(true);
  splitter.strip_accents = get<bool>(normalizer, "strip_accents").value_or(splitter.lowercase);
  splitter.split_ideographs = get<bool>(normalizer, "handle_chinese_chars").value_or(true);
  splitter.clean_text = get<bool>(normalizer, "clean_text").value_or(true);
  options.max_word_chars = get<std::size_t>(model, "max_input_chars_per_word").value_or(100);
  options.special.unk = get<std::string>(model, "unk_token").value_or(options.special.unk);
  for (const Json& token : part("added_tokens")) {
    const std::string text = token.at("content").get<std::string>();
    if (!token.value("special", false)) {
      throw_input_error(
          "{}: the added token '{}' is not a special token; only special ones can be "
          "read: put the others into the vocabulary",
          file.string(), text);
    }
    options.extra_special.push_back(text);
  }
  return order_pieces(file, model.at("vocab"), part("added_tokens"));
}

Json added_token(std::int32_t id, const std::string& text) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json sequence(const char* name, int type) {
  return {{"Sequence", {{"id", name}, {"type_id", type}}}};
}

Json special_token(const std::string& name, int type) {
  return {{"SpecialToken", {{"id", name}, {"type_id", type}}}};
}

Json tokenizer_json(const WordpieceTokenizer& tokenizer) {
  const WordpieceOptions& options = tokenizer.options();
  const SpecialTokenNames& names = options.special;
  const SpecialTokens& ids = tokenizer.special();
  Json added = Json::array();
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id))
      added.push_back(added_token(id, std::string(tokenizer.piece(id))));
  }
  Json vocab = Json::object();
  // Json::object_t is a vector that is searched on insertion: fill it from behind its back.
  auto& entries = vocab.get_ref<Json::object_t&>();
  entries.reserve(tokenizer.pieces().size());
  for (std::size_t i = 0; i < tokenizer.pieces().size(); ++i) {
    static_cast<std::vector<Json::object_t::value_type>&>(entries).emplace_back(
        tokenizer.pieces()[i], i);
  }
  const auto template_token = [](const std::string& name, std::int32_t id) {
    return Json{{"id", name}, {"ids", {id}}, {"tokens", {name}}};
  };
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"clean_text", options.splitter.clean_text},
        {"handle_chinese_chars", options.splitter.split_ideographs},
        {"strip_accents", options.splitter.strip_accents},
        {"lowercase", options.splitter.lowercase}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {special_token(names.cls, 0), sequence("A", 0), special_token(names.sep, 0)}},
        {"pair",
         {special_token(names.cls, 0), sequence("A", 0), special_token(names.sep, 0),
          sequence("B", 1), special_token(names.sep, 1)}},
        {"special_tokens",
         {{names.cls, template_token(names.cls, ids.cls)},
          {names.sep, template_token(names.sep, ids.sep)}}}}},
      {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
      {"model",
       {{"type", "WordPiece"},
        {"unk_token", names.unk},
        {"continuing_subword_prefix", "##"},
        {"max_input_chars_per_word", options.max_word_chars},
        {"vocab", vocab}}}};
}

}  // namespace

std::unique_ptr<WordpieceTokenizer> load_wordpiece_vocab(const fs::path& file,
                                                         const WordpieceOptions& options) {
  return std::make_unique<WordpieceTokenizer>(read_vocab(file), options, file.string());
}

std::unique_ptr<WordpieceTokenizer> load_wordpiece_folder(const fs::path& folder) {
  WordpieceOptions options = wordpiece_options(false);
  fs::path file = folder / "tokenizer.json";
  try {
    std::vector<std::string> pieces;
    if (fs::exists(file)) {
      pieces = read_tokenizer_json(file, options);
    } else {
      pieces = read_vocab(folder / "vocab.txt");
    }
    const fs::path source = fs::exists(file) ? file : folder / "vocab.txt";
    for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
      file = folder / name;
      if (fs::exists(file)) read_config(file, options);
    }
    return std::make_unique<WordpieceTokenizer>(std::move(pieces), options, source.string());
  } catch (const Json::exception& error) {
    throw_input_error("{} does not describe a tokenizer: {}", file.string(), error.what());
  }
}

void save_wordpiece(const WordpieceTokenizer& tokenizer, const fs::path& folder) {
  make_directories(folder);
  const WordpieceOptions& options = tokenizer.options();
  const SpecialTokenNames& names = options.special;
  const Json special{{"unk_token", names.unk},
                     {"sep_token", names.sep},
                     {"pad_token", names.pad},
                     {"cls_token", names.cls},
                     {"mask_token", names.mask}};
  Json config{{"tokenizer_class", "BertTokenizer"},
              {"do_lower_case", options.splitter.lowercase},
              {"strip_accents", options.splitter.strip_accents},
              {"tokenize_chinese_chars", options.splitter.split_ideographs}};
  if (options.splitter.mode != CompatMode::kHuggingFace) {
    config[kModeKey] = compat_mode_name(options.splitter.mode);
  }
  config.update(special);
  std::string vocab;
  for (const std::string& text : tokenizer.pieces()) (vocab += text) += '\n';
  write_file_atomic(folder / "vocab.txt", vocab);
  write_file_atomic(folder / "tokenizer.json", tokenizer_json(tokenizer).dump(2) + "\n");
  write_file_atomic(folder / "tokenizer_config.json", config.dump(2) + "\n");
  write_file_atomic(folder / "special_tokens_map.json", special.dump(2) + "\n");
}

}  // namespace bert
