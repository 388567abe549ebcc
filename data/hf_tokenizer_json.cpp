#include "data/hf_tokenizer_json.h"

#include <utility>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert::hf {

ParsedJson read_json(const std::filesystem::path& file) {
  return parse_json<ParsedJson>(read_file(file), file.string());
}

Json special_token_names(const Tokenizer& tokenizer) {
  const SpecialTokens& ids = tokenizer.special();
  Json names;
  names["unk_token"] = tokenizer.piece(ids.unk);
  names["sep_token"] = tokenizer.piece(ids.sep);
  names["pad_token"] = tokenizer.piece(ids.pad);
  names["cls_token"] = tokenizer.piece(ids.cls);
  names["mask_token"] = tokenizer.piece(ids.mask);
  return names;
}

Json added_tokens(const Tokenizer& tokenizer, const std::vector<std::int32_t>& specials) {
  Json tokens = Json::array();
  for (const std::int32_t id : specials) {
    Json token;
    token["id"] = id;
    token["content"] = tokenizer.piece(id);
    for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"}) token[key] = false;
    token["special"] = true;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

Json template_processing(const Tokenizer& tokenizer) {
  const auto part = [](const char* kind, std::string_view id, int type) {
    Json inner;
    inner["id"] = id;
    inner["type_id"] = type;
    Json outer;
    outer[kind] = std::move(inner);
    return outer;
  };
  const std::string_view cls = tokenizer.piece(tokenizer.special().cls);
  const std::string_view sep = tokenizer.piece(tokenizer.special().sep);
  Json result;
  result["type"] = "TemplateProcessing";
  result["single"] = Json::array(
      {part("SpecialToken", cls, 0), part("Sequence", "A", 0), part("SpecialToken", sep, 0)});
  result["pair"] = result["single"];
  result["pair"].push_back(part("Sequence", "B", 1));
  result["pair"].push_back(part("SpecialToken", sep, 1));
  for (const std::int32_t id : {tokenizer.special().cls, tokenizer.special().sep}) {
    Json token;
    token["id"] = tokenizer.piece(id);
    token["ids"] = Json::array({id});
    token["tokens"] = Json::array({tokenizer.piece(id)});
    result["special_tokens"][std::string(tokenizer.piece(id))] = std::move(token);
  }
  return result;
}

Json vocab_map(const Tokenizer& tokenizer) {
  // An ordered object searches itself at each insertion: build the vector that it is.
  Json vocab = Json::object();
  using Entries = std::vector<std::pair<const std::string, Json>>;
  Entries& entries = vocab.get_ref<Json::object_t&>();
  entries.reserve(static_cast<std::size_t>(tokenizer.vocab_size()));
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    entries.emplace_back(std::string(tokenizer.piece(id)), id);
  }
  return vocab;
}

void read_token_name(const ParsedJson& config, const char* key, std::string& name) {
  const auto found = config.find(key);
  if (found == config.end()) return;
  if (found->is_string()) name = found->get<std::string>();
  if (found->is_object()) name = found->at("content").get<std::string>();
}

void write_json(const std::filesystem::path& file, const Json& json) {
  write_file_atomic(file, json.dump(2) + "\n");
}

}  // namespace bert::hf
