#include "data/tokenization/wordpiece_files.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/tokenization/hf_tokenizer_json.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using hf::Json;
using hf::ParsedJson;

constexpr std::size_t kMostWordChars = 100;         // of every BertTokenizer
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

// A token beside the model's vocabulary, or one of it that is to be taken whole.
struct AddedToken {
  std::string text;
  std::optional<std::int64_t> id;  // none: the one it has in the vocabulary, or the next
};

// What the files of a folder say, each over what the ones before it said.
struct FolderFacts {
  WordpieceOptions options = wordpiece_options(false);
  std::vector<AddedToken> added;
};

// An added token as an object with "content" and flags. Only special ones are taken whole here, and
// only as they are written.
AddedToken read_added(const fs::path& file, const ParsedJson& token) {
  AddedToken added{token.at("content").get<std::string>(), std::nullopt};
  if (!token.value("special", false)) {
    throw_input_error(
        "{}: the added token '{}' is not a special token; only special ones can be "
        "read: put the others into the vocabulary",
        file.string(), added.text);
  }
  for (const char* flag : {"single_word", "normalized"}) {
    if (token.value(flag, false)) {
      throw_input_error(
          "{}: the added token '{}' is {}; expected one that is looked for as it is "
          "written, anywhere",
          file.string(), added.text, flag);
    }
  }
  return added;
}

std::int64_t read_id(const fs::path& file, const ParsedJson& id, const std::string& text) {
  return json_integer<std::int64_t>(id, fmt::format("{}: the id of '{}'", file.string(), text));
}

// "additional_special_tokens", "extra_special_tokens": a list of strings or objects, or a map to
// them.
void read_additional_tokens(const ParsedJson& config, FolderFacts& facts) {
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const auto found = config.find(key);
    if (found == config.end()) continue;
    for (const ParsedJson& token : *found) {
      facts.added.push_back(
          {token.is_object() ? token.at("content").get<std::string>() : token.get<std::string>(),
           std::nullopt});
    }
  }
}

// What BERT's tokenizer in Hugging Face's library can be told and this one cannot.
void check_config(const fs::path& file, const ParsedJson& config, bool described) {
  const auto name = get<std::string>(config, "tokenizer_class");
  // Where there is a tokenizer.json, what it says is checked instead of a name.
  constexpr std::string_view kSame[] = {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer",
                                        "PreTrainedTokenizer", "TokenizersBackend"};
  const auto is_same = [&](std::string_view known) {
    return *name == known || *name == std::string(known) + "Fast";
  };
  if (name && !described && std::none_of(std::begin(kSame), std::end(kSame), is_same)) {
    throw_input_error("{}: a {} cannot be read; expected a BertTokenizer", file.string(), *name);
  }
  if (!get<bool>(config, "do_basic_tokenize").value_or(true)) {
    throw_input_error("{}: do_basic_tokenize is false; text is always split into words here",
                      file.string());
  }
  const auto never = config.find("never_split");
  if (never != config.end() && !never->is_null() && !never->empty()) {
    throw_input_error("{}: never_split names tokens that are not cut; make them special tokens",
                      file.string());
  }
}

// What tokenizer_config.json or special_tokens_map.json says. `described`: there is a
// tokenizer.json.
void read_config(const fs::path& file, bool described, FolderFacts& facts) {
  const ParsedJson config = hf::read_json(file);
  check_config(file, config, described);
  WordpieceOptions& options = facts.options;
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
  hf::read_special_names(config, options.special);
  const auto tokens = config.find("added_tokens_decoder");
  if (tokens != config.end()) {
    for (const auto& [id, token] : tokens->items()) {
      AddedToken added = read_added(file, token);
      added.id = read_id(file, parse_json<ParsedJson>(id, file.string()), added.text);
      facts.added.push_back(std::move(added));
    }
  }
  read_additional_tokens(config, facts);
}

// added_tokens.json, which older folders have beside vocab.txt: a map from texts to ids. Which of
// them are special is said elsewhere, so this comes last.
void read_added_tokens(const fs::path& file, FolderFacts& facts) {
  const ParsedJson tokens = hf::read_json(file);
  for (const auto& [text, id] : tokens.items()) {
    const auto known = std::find_if(facts.added.begin(), facts.added.end(),
                                    [&](const AddedToken& added) { return added.text == text; });
    if (known != facts.added.end()) {
      known->id = read_id(file, id, text);
    } else if (facts.options.special.contains(text)) {
      facts.added.push_back({text, read_id(file, id, text)});
    } else {
      throw_input_error(
          "{}: the added token '{}' is not a special token; only special ones can be "
          "read: put the others into the vocabulary",
          file.string(), text);
    }
  }
}

[[noreturn]] void throw_foreign(const fs::path& file, std::string_view part,
                                const ParsedJson& found, std::string_view expected) {
  throw_input_error("{}: its {} is {}; expected {}, as BERT's tokenizers have it", file.string(),
                    part, found.is_object() ? found.value("type", "of no type") : "missing",
                    expected);
}

// Pieces in the order of their ids out of a map from piece to id; empty texts where `added` tokens
// belong.
std::vector<std::string> order_pieces(const fs::path& file, const ParsedJson& vocab,
                                      std::size_t added) {
  std::vector<std::string> pieces(vocab.size() + added);
  for (const auto& [text, number] : vocab.items()) {
    const std::int64_t id = read_id(file, number, text);
    if (id < 0 || id >= static_cast<std::int64_t>(pieces.size()) ||
        !pieces[static_cast<std::size_t>(id)].empty()) {
      throw_input_error(
          "{}: the id {} of '{}' is out of range or used twice; expected the ids 0 to "
          "{}, each once",
          file.string(), id, text, pieces.size() - 1);
    }
    pieces[static_cast<std::size_t>(id)] = text;
  }
  while (!pieces.empty() && pieces.back().empty()) pieces.pop_back();
  return pieces;
}

// Puts the tokens that the vocabulary lacks where their ids say, the others at its end.
void add_tokens(const fs::path& file, std::vector<AddedToken> added,
                std::vector<std::string>& pieces) {
  std::unordered_map<std::string, std::size_t> ids;
  for (std::size_t i = 0; i < pieces.size(); ++i) ids.emplace(pieces[i], i);
  std::stable_sort(added.begin(), added.end(), [](const AddedToken& a, const AddedToken& b) {
    return a.id && (!b.id || *a.id < *b.id);
  });
  for (const AddedToken& token : added) {
    const auto found = ids.find(token.text);
    const std::size_t known = found != ids.end() ? found->second : pieces.size();
    const auto id = static_cast<std::size_t>(token.id.value_or(static_cast<std::int64_t>(known)));
    if (found != ids.end() ? id != known
                           : id > pieces.size() || (id < pieces.size() && !pieces[id].empty())) {
      throw_input_error(
          "{}: the id {} of the added token '{}' is not the one in the vocabulary, "
          "used twice, or not the next one",
          file.string(), id, token.text);
    }
    if (id == pieces.size()) pieces.emplace_back();
    pieces[id] = token.text;
    ids.emplace(token.text, id);
  }
}

// [CLS] A [SEP], in either of the two ways of writing it.
void check_post_processor(const fs::path& file, const ParsedJson& processor,
                          const SpecialTokenNames& special) {
  const auto is_token = [](const ParsedJson& step, const std::string& name) {
    const auto token = step.find("SpecialToken");
    return token != step.end() && token->at("id") == name;
  };
  bool known = false;
  if (processor.is_object() && processor.value("type", "") == "BertProcessing") {
    known = processor.at("cls").at(0) == special.cls && processor.at("sep").at(0) == special.sep;
  } else if (processor.is_object() && processor.value("type", "") == "TemplateProcessing") {
    const ParsedJson& single = processor.at("single");
    known = single.size() == 3 && is_token(single[0], special.cls) &&
            single[1].contains("Sequence") && is_token(single[2], special.sep);
  }
  if (!known) {
    throw_foreign(file, "post_processor", processor,
                  fmt::format("{} before a text and {} after it", special.cls, special.sep));
  }
}

// tokenizer.json: the pieces, and what it says about splitting.
std::vector<std::string> read_tokenizer_json(const fs::path& file, const ParsedJson& json,
                                             FolderFacts& facts) {
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
  WordpieceOptions& options = facts.options;
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
    AddedToken added = read_added(file, token);
    added.id = read_id(file, token.at("id"), added.text);
    facts.added.push_back(std::move(added));
  }
  return order_pieces(file, model.at("vocab"), facts.added.size());
}

Json tokenizer_json(const WordpieceTokenizer& tokenizer) {
  const WordpieceOptions& options = tokenizer.options();
  Json normalizer, pre_tokenizer, decoder, model;
  normalizer["type"] = "BertNormalizer";
  normalizer["clean_text"] = options.splitter.clean_text;
  normalizer["handle_chinese_chars"] = options.splitter.split_ideographs;
  normalizer["strip_accents"] = options.splitter.strip_accents;
  normalizer["lowercase"] = options.splitter.lowercase;
  pre_tokenizer["type"] = "BertPreTokenizer";
  decoder["type"] = "WordPiece";
  decoder["prefix"] = "##";
  decoder["cleanup"] = true;
  model["type"] = "WordPiece";
  model["unk_token"] = options.special.unk;
  model["continuing_subword_prefix"] = "##";
  model["max_input_chars_per_word"] = options.max_word_chars;
  model["vocab"] = hf::vocab_map(tokenizer);
  return hf::tokenizer_json(tokenizer, std::move(normalizer), std::move(pre_tokenizer),
                            std::move(decoder), std::move(model));
}

}  // namespace

std::unique_ptr<WordpieceTokenizer> load_wordpiece_vocab(const fs::path& file,
                                                         const WordpieceOptions& options) {
  return std::make_unique<WordpieceTokenizer>(read_vocab(file), options, file.string());
}

std::unique_ptr<WordpieceTokenizer> load_wordpiece_folder(const fs::path& folder) {
  const bool described = fs::exists(folder / "tokenizer.json");
  const fs::path source = folder / (described ? "tokenizer.json" : "vocab.txt");
  FolderFacts facts;
  fs::path file = source;
  try {
    ParsedJson json;
    std::vector<std::string> pieces;
    if (described) {
      json = hf::read_json(file);
      pieces = read_tokenizer_json(file, json, facts);
    } else {
      pieces = read_vocab(file);
    }
    for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
      file = folder / name;
      if (fs::exists(file)) read_config(file, described, facts);
    }
    file = folder / "added_tokens.json";
    if (!described && fs::exists(file)) read_added_tokens(file, facts);
    file = source;
    if (described) {
      check_post_processor(file, json.value("post_processor", ParsedJson()), facts.options.special);
    }
    add_tokens(file, facts.added, pieces);
    for (AddedToken& token : facts.added) {
      facts.options.extra_special.push_back(std::move(token.text));
    }
    return std::make_unique<WordpieceTokenizer>(std::move(pieces), facts.options, source.string());
  } catch (const ParsedJson::exception& error) {
    throw_input_error("{} does not describe a tokenizer: {}", file.string(), error.what());
  }
}

void save_wordpiece(const WordpieceTokenizer& tokenizer, const fs::path& folder) {
  make_directories(folder);
  const WordpieceOptions& options = tokenizer.options();
  const Json special = hf::special_token_names(tokenizer);
  Json config;
  // A BertTokenizer splits words by tokenizer_config.json alone, which cannot say these.
  const bool plain = options.splitter.clean_text && options.max_word_chars == kMostWordChars;
  config["tokenizer_class"] = plain ? "BertTokenizer" : "PreTrainedTokenizerFast";
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
