// Finds special tokens, as they are written, in running text.
#pragma once

#include <string_view>

#include "data/piece_trie.h"

namespace bert {

// Calls plain(part, offset) for the text between special tokens and special(id, begin, end) for
// each of them, in the order of the text; leftmost and longest first.
template <typename Plain, typename Special>
void split_special_tokens(const PieceTrie& specials, std::string_view text, Plain&& plain,
                          Special&& special) {
  std::size_t plain_begin = 0;
  for (std::size_t i = 0; i < text.size();) {
    const PieceTrie::Match match = specials.longest(text.substr(i));
    if (match.id < 0) {
      ++i;
      continue;
    }
    plain(text.substr(plain_begin, i - plain_begin), static_cast<std::uint32_t>(plain_begin));
    special(match.id, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i + match.length));
    i += match.length;
    plain_begin = i;
  }
  plain(text.substr(plain_begin), static_cast<std::uint32_t>(plain_begin));
}

}  // namespace bert
