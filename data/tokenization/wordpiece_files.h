// The files of a WordPiece tokenizer: vocab.txt alone, or a folder as Hugging Face writes it.
#pragma once

#include <filesystem>
#include <memory>

#include "data/tokenization/tokenizer.h"
#include "data/tokenization/wordpiece_tokenizer.h"

namespace bert {

// A bare vocab.txt: one piece a line, the line's number minus one its id.
std::unique_ptr<WordpieceTokenizer> load_wordpiece_vocab(const std::filesystem::path& file,
                                                         const WordpieceOptions& options);

// A folder with tokenizer.json, or with vocab.txt and, where there are any, tokenizer_config.json
// and special_tokens_map.json. InputError where a file is damaged, or describes a tokenizer that is
// not BERT's (another model, normalizer or pre-tokenizer).
std::unique_ptr<WordpieceTokenizer> load_wordpiece_folder(const std::filesystem::path& folder);

void save_wordpiece(const WordpieceTokenizer& tokenizer, const std::filesystem::path& folder);

}  // namespace bert
