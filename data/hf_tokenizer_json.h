// The parts of Hugging Face's tokenizer files that are the same for every model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/tokenizer.h"

namespace bert::hf {

using Json = nlohmann::ordered_json;  // for writing, with keys in the order of their making
using ParsedJson = nlohmann::json;    // for reading: it finds keys, and vocabularies are large

// InputError naming the file if it cannot be read or parsed.
ParsedJson read_json(const std::filesystem::path& file);

// {"unk_token": ..., "sep_token": ..., ...}: the content of special_tokens_map.json, and part of
// tokenizer_config.json's.
Json special_token_names(const Tokenizer& tokenizer);

// The entries of tokenizer.json around the model: version, added tokens (`specials`, ids in
// ascending order) and the template [CLS] A [SEP] B [SEP].
Json added_tokens(const Tokenizer& tokenizer, const std::vector<std::int32_t>& specials);
Json template_processing(const Tokenizer& tokenizer);

// A map from each piece to its id.
Json vocab_map(const Tokenizer& tokenizer);

// The text at a key such as "cls_token": a string, or an object with a "content". `name` is kept
// where there is none.
void read_token_name(const ParsedJson& config, const char* key, std::string& name);

void write_json(const std::filesystem::path& file, const Json& json);

}  // namespace bert::hf
