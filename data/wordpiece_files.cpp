#include "data/wordpiece_files.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/hf_tokenizer_json.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using hf::Json;
using hf::ParsedJson;

constexpr const char* kModeKey = "tokenizer_mode";  // ours; absent means huggingface

// The value at a key, or nothing where it is absent or null.
template <typename Value>
std::optional<Value> get(const ParsedJson& object, const char* key) {
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

void read_special_names(const ParsedJson& config, SpecialTokenNames& names) {
  hf::read_token_name(config, "pad_token", names.pad);
  hf::read_token_name(config, "unk_token", names.unk);
  hf::read_token_name(config, "cls_token", names.cls);
  hf::read_token_name(config, "sep_token", names.sep);
  hf::read_token_name(config, "mask_token", names.mask);
}

// What tokenizer_config.json or special_tokens_map.json says, over what `options` held before.
void read_config(const fs::path& file, WordpieceOptions& options) {
  const ParsedJson config = hf::read_json(file);
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

[[noreturn]] void throw_foreign(const fs::path& file, std::string_view part,
                                const ParsedJson& found, std::string_view expected) {
  throw_input_error("{}: its {} is {}; expected {}, as BERT's tokenizers have it", file.string(),
                    part, found.is_object() ? found.value("type", "of no type") : "missing",
                    expected);
}

// Pieces in the order of their ids out of a map from piece to id.
std::vector<std::string> order_pieces(const fs::path& file, const ParsedJson& vocab,
                                      const ParsedJson& added) {
  std::vector<std::pair<std::string, std::int64_t>> entries;
  const auto integer = [&](const ParsedJson& id, const std::string& text) {
    return json_integer<std::int64_t>(id, fmt::format("{}: the id of '{}'", file.string(), text));
  };
  for (const auto& [text, id] : vocab.items()) entries.emplace_back(text, integer(id, text));
  for (const ParsedJson& token : added) {
    const std::string text = token.at("content").get<std::string>();
    if (!vocab.contains(text)) entries.emplace_back(text, integer(token.at("id"), text));
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
  const ParsedJson json = hf::read_json(file);
  const ParsedJson null;
  const auto part = [&](const char* key) -> const ParsedJson& {
    const auto found = json.find(key);
    return found == json.end() ? null : *found;
  };
  const auto has_type = [](const ParsedJson& object, std::string_view type) {
    return object.is_object() && object.value("type", "") == type;
  };
  const ParsedJson &model = part("model"), &normalizer = part("normalizer");
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
  if (const auto most = model.find("max_input_chars_per_word");
      most != model.end() && !most->is_null()) {
    options.max_word_chars =
        json_integer<std::uint32_t>(*most, file.string() + ": model.max_input_chars_per_word");
  }
  options.special.unk = get<std::string>(model, "unk_token").value_or(options.special.unk);
  for (const ParsedJson& token : part("added_tokens")) {
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

Json tokenizer_json(const WordpieceTokenizer& tokenizer) {
  const WordpieceOptions& options = tokenizer.options();
  std::vector<std::int32_t> specials;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_special(id)) specials.push_back(id);
  }
  Json json;
  json["version"] = "1.0";
  json["truncation"] = json["padding"] = nullptr;
  json["added_tokens"] = hf::added_tokens(tokenizer, specials);
  Json& normalizer = json["normalizer"];
  normalizer["type"] = "BertNormalizer";
  normalizer["clean_text"] = options.splitter.clean_text;
  normalizer["handle_chinese_chars"] = options.splitter.split_ideographs;
  normalizer["strip_accents"] = options.splitter.strip_accents;
  normalizer["lowercase"] = options.splitter.lowercase;
  json["pre_tokenizer"]["type"] = "BertPreTokenizer";
  json["post_processor"] = hf::template_processing(tokenizer);
  Json& decoder = json["decoder"];
  decoder["type"] = "WordPiece";
  decoder["prefix"] = "##";
  decoder["cleanup"] = true;
  Json& model = json["model"];
  model["type"] = "WordPiece";
  model["unk_token"] = options.special.unk;
  model["continuing_subword_prefix"] = "##";
  model["max_input_chars_per_word"] = options.max_word_chars;
  model["vocab"] = hf::vocab_map(tokenizer);
  return json;
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
  } catch (const ParsedJson::exception& error) {
    throw_input_error("{} does not describe a tokenizer: {}", file.string(), error.what());
  }
}

void save_wordpiece(const WordpieceTokenizer& tokenizer, const fs::path& folder) {
  make_directories(folder);
  const WordpieceOptions& options = tokenizer.options();
  const Json special = hf::special_token_names(tokenizer);
  Json config;
  config["tokenizer_class"] = "BertTokenizer";
  config["do_lower_case"] = options.splitter.lowercase;
  config["strip_accents"] = options.splitter.strip_accents;
  config["tokenize_chinese_chars"] = options.splitter.split_ideographs;
  if (options.splitter.mode != CompatMode::kHuggingFace) {
    config[kModeKey] = compat_mode_name(options.splitter.mode);
  }
  config.update(special);
  std::string vocab;
  for (const std::string& text : tokenizer.pieces()) (vocab += text) += '\n';
  write_file_atomic(folder / "vocab.txt", vocab);
  hf::write_json(folder / "tokenizer.json", tokenizer_json(tokenizer));
  hf::write_json(folder / "tokenizer_config.json", config);
  hf::write_json(folder / "special_tokens_map.json", special);
}

}  // namespace bert
