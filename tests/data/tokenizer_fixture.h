// Small vocabularies, and where the shared test data lie.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenization/tokenizer.h"

namespace bert {

// ../shared/data beside the project, or the folder in BERT_TEST_DATA; nothing where neither is.
inline std::optional<std::filesystem::path> shared_data(std::string_view file) {
  const char* const given = std::getenv("BERT_TEST_DATA");
  const std::filesystem::path folder =
      given != nullptr ? std::filesystem::path(given)
                       : std::filesystem::path(BERT_SOURCE_DIR) / ".." / "shared" / "data";
  if (!std::filesystem::exists(folder / file)) return std::nullopt;
  return folder / file;
}

// The five special tokens, then `pieces`.
inline std::vector<std::string> with_special(std::vector<std::string> pieces) {
  pieces.insert(pieces.begin(), {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"});
  return pieces;
}

inline std::vector<Token> encode(const Tokenizer& tokenizer, std::string_view text,
                                 bool parse_special_tokens = false) {
  std::vector<Token> tokens;
  tokenizer.encode(text, tokens, parse_special_tokens);
  return tokens;
}

inline std::vector<std::int32_t> ids_of(const std::vector<Token>& tokens) {
  std::vector<std::int32_t> ids;
  for (const Token& token : tokens) ids.push_back(token.id);
  return ids;
}

inline std::vector<std::string> pieces_of(const Tokenizer& tokenizer,
                                          const std::vector<Token>& tokens) {
  std::vector<std::string> pieces;
  for (const Token& token : tokens) pieces.emplace_back(tokenizer.piece(token.id));
  return pieces;
}

// The parts of `text` that the tokens stand for.
inline std::vector<std::string> sources_of(std::string_view text,
                                           const std::vector<Token>& tokens) {
  std::vector<std::string> sources;
  for (const Token& token : tokens) {
    sources.emplace_back(text.substr(token.begin, token.end - token.begin));
  }
  return sources;
}

// What an expression throws, as "<exit code>: <message>"; "" if nothing.
#define ERROR_OF(expression)                                            \
  [&]() -> std::string {                                                \
    try {                                                               \
      (void)(expression);                                               \
    } catch (const ::bert::Error& thrown) {                             \
      return std::to_string(thrown.exit_code()) + ": " + thrown.what(); \
    }                                                                   \
    return "";                                                          \
  }()

}  // namespace bert
