// Finds special tokens, as they are written, in running text.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/piece_trie.h"
#include "data/tokenizer.h"

namespace bert {

// Tokenizer::encode in terms of encode_plain(part, offset), which appends the pieces of text
// without special tokens to `out`; `offset` is where the part begins in `text`. Special tokens,
// leftmost and longest first, are appended here; `specials` null: none is looked for.
template <typename EncodePlain>
void encode_around_specials(const PieceTrie* specials, std::string_view text,
                            std::vector<Token>& out, EncodePlain&& encode_plain) {
  std::size_t plain_begin = 0;
  for (std::size_t i = 0; specials != nullptr && i < text.size();) {
    const PieceTrie::Match match = specials->longest(text.substr(i));
    if (match.id < 0) {
      ++i;
      continue;
    }
    encode_plain(text.substr(plain_begin, i - plain_begin),
                 static_cast<std::uint32_t>(plain_begin));
    const auto end = static_cast<std::uint32_t>(i + match.length);
    out.push_back({match.id, static_cast<std::uint32_t>(i), end, false});
    plain_begin = i = end;
  }
  encode_plain(text.substr(plain_begin), static_cast<std::uint32_t>(plain_begin));
}

}  // namespace bert
