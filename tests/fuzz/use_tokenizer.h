// What is done with each tokenizer that could be loaded.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "data/tokenization/tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {

inline void encode_and_decode(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool specials : {false, true}) {
    std::vector<Token> tokens;
    tokenizer.encode(text, tokens, specials);
    std::vector<std::int32_t> ids;
    for (const Token& token : tokens) {
      require(token.id >= 0 && token.id < tokenizer.vocab_size(), "ids are of the vocabulary");
      require(token.begin <= token.end && token.end <= text.size(), "a token lies in its text");
      ids.push_back(token.id);
    }
    tokenizer.decode(ids);
  }
}

// Encodes, decodes, saves and loads again.
inline void use(const Tokenizer& tokenizer, std::string_view text) {
  encode_and_decode(tokenizer, text);
  encode_and_decode(tokenizer, "A caf\xc3\xa9, na\xc3\xafve [MASK] unaffable \xe4\xb8\xad\n\xff");
  const auto folder = scratch_folder() / "saved";
  std::filesystem::remove_all(folder);
  tokenizer.save(folder);
  std::unique_ptr<Tokenizer> again;
  require(accepts([&] { again = load_tokenizer(folder); }), "a tokenizer that was saved is loaded");
  require(again->fingerprint() == tokenizer.fingerprint(), "and is the same");
}

}  // namespace bert::fuzz
