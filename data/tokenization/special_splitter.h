// Finds special tokens, as they are written, in running text.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenization/tokenizer.h"
#include "runtime/error.h"

namespace bert {

class SpecialSplitter {
 public:
  SpecialSplitter() = default;
  // The special tokens of a tokenizer that knows its pieces.
  explicit SpecialSplitter(const Tokenizer& tokenizer) {
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (!tokenizer.is_special(id)) continue;
      const std::string& text = tokens_.emplace_back(tokenizer.piece(id), id).first;
      BERT_CHECK(!text.empty(), "a special token is written with at least one character");
      begins_[static_cast<unsigned char>(text[0])] = true;
    }
    std::stable_sort(tokens_.begin(), tokens_.end(),
                     [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  }

  // Tokenizer::encode in terms of encode_plain(part, offset), which appends the pieces of text
  // without special tokens to `out`; `offset` is where the part begins in `text`. Special tokens,
  // leftmost and longest first, are appended here, if they are to be looked for.
  template <typename EncodePlain>
  void encode(std::string_view text, bool parse_special_tokens, std::vector<Token>& out,
              EncodePlain&& encode_plain) const {
    std::size_t plain_begin = 0;
    for (std::size_t i = 0; parse_special_tokens && i < text.size();) {
      const Special* const special = find(text.substr(i));
      if (special == nullptr) {
        ++i;
        continue;
      }
      encode_plain(text.substr(plain_begin, i - plain_begin),
                   static_cast<std::uint32_t>(plain_begin));
      const auto end = static_cast<std::uint32_t>(i + special->first.size());
      out.push_back({special->second, static_cast<std::uint32_t>(i), end, false});
      plain_begin = i = end;
    }
    encode_plain(text.substr(plain_begin), static_cast<std::uint32_t>(plain_begin));
  }

 private:
  using Special = std::pair<std::string, std::int32_t>;

  // The longest that `text` begins with.
  const Special* find(std::string_view text) const {
    if (!begins_[static_cast<unsigned char>(text[0])]) return nullptr;
    const auto found = std::find_if(tokens_.begin(), tokens_.end(), [&](const Special& token) {
      return text.starts_with(token.first);
    });
    return found == tokens_.end() ? nullptr : &*found;
  }

  std::vector<Special> tokens_;  // the longest first
  std::array<bool, 256> begins_{};
};

}  // namespace bert
