// The parts of Hugging Face's tokenizer files that are the same for every model.
#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "data/tokenization/tokenizer.h"

namespace bert::hf {

using Json = nlohmann::ordered_json;  // for writing, with keys in the order of their making
using ParsedJson = nlohmann::json;    // for reading: it finds keys, and vocabularies are large

// InputError naming the file if it cannot be read or parsed.
ParsedJson read_json(const std::filesystem::path& file);

// {"unk_token": ..., "sep_token": ..., ...}: the content of special_tokens_map.json, and part of
// tokenizer_config.json's.
Json special_token_names(const Tokenizer& tokenizer);

// A map from each piece to its id.
Json vocab_map(const Tokenizer& tokenizer);

// tokenizer.json: the parts that differ, with version, special tokens and the template
// [CLS] A [SEP] B [SEP] around them.
Json tokenizer_json(const Tokenizer& tokenizer, Json normalizer, Json pre_tokenizer, Json decoder,
                    Json model);

// The texts at "cls_token" and its like: a string each, or an object with a "content". A name is
// kept where there is none.
void read_special_names(const ParsedJson& config, SpecialTokenNames& names);

void write_json(const std::filesystem::path& file, const Json& json);

}  // namespace bert::hf
