#include "data/tokenization/hf_tokenizer_json.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert::hf {
namespace {

Json added_tokens(const Tokenizer& tokenizer) {
  Json tokens = Json::array();
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_special(id)) continue;
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

}  // namespace

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

Json tokenizer_json(const Tokenizer& tokenizer, Json normalizer, Json pre_tokenizer, Json decoder,
                    Json model) {
  Json json;
  json["version"] = "1.0";
  json["truncation"] = json["padding"] = nullptr;
  json["added_tokens"] = added_tokens(tokenizer);
  json["normalizer"] = std::move(normalizer);
  json["pre_tokenizer"] = std::move(pre_tokenizer);
  json["post_processor"] = template_processing(tokenizer);
  json["decoder"] = std::move(decoder);
  json["model"] = std::move(model);
  return json;
}

void read_special_names(const ParsedJson& config, SpecialTokenNames& names) {
  SpecialTokenNames::for_each([&](const std::string& which, auto name) {
    const auto found = config.find(which + "_token");
    if (found == config.end()) return;
    if (found->is_string()) names.*name = found->get<std::string>();
    if (found->is_object()) names.*name = found->at("content").get<std::string>();
  });
}

void write_json(const std::filesystem::path& file, const Json& json) {
  write_file_atomic(file, json.dump(2) + "\n");
}

}  // namespace bert::hf
