// What counts as blank in text files, ASCII's white space, and the mark that may stand before it
// all.
#pragma once

#include <algorithm>
#include <string_view>

namespace bert {

inline bool is_blank_char(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
inline bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_blank_char);
}

inline constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace bert
