#include "data/task_files/answer_text.h"

#include <map>

#include <utf8proc.h>

#include "data/text/unicode.h"

namespace bert {
namespace {

using Codes = std::u32string;

Codes decode(std::string_view text) {
  Codes codes;
  for (std::size_t position = 0; position < text.size();) {
    const DecodedChar decoded = decode_utf8(text, position);
    codes.push_back(decoded.code);
    position += decoded.size;
  }
  return codes;
}

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

// Unicode 3.13, Final_Sigma: after a letter and not before one.
bool is_final_sigma(const Codes& text, std::size_t place) {
  std::size_t before = place;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  std::size_t after = place + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

Codes lower_case(const Codes& text) {
  Codes result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == U'\u0130') {  // the only one that becomes two
      result += U"i\u0307";
    } else if (text[i] == U'\u03a3') {
      result += is_final_sigma(text, i) ? U'\u03c2' : U'\u03c3';
    } else {
      result += static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(text[i])));
    }
  }
  return result;
}

bool is_ascii_punctuation(char32_t code) {
  return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
         (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
}

// Of a word in Python's regular expressions; the underscore has gone with the punctuation.
bool is_word_char(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return true;
    default:
      return false;
  }
}

// Python's str.isspace.
bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

// Each article becomes a space, as in the scripts: what was joined to it by other characters than
// letters is parted.
Codes without_articles(const Codes& text) {
  Codes result;
  for (std::size_t i = 0; i < text.size();) {
    if (!is_word_char(text[i])) {
      result += text[i++];
      continue;
    }
    std::size_t end = i;
    while (end < text.size() && is_word_char(text[end])) ++end;
    const Codes word = text.substr(i, end - i);
    result += word == U"a" || word == U"an" || word == U"the" ? U" " : word;
    i = end;
  }
  return result;
}

}  // namespace

std::vector<std::string> answer_words(std::string_view answer) {
  Codes text = lower_case(decode(answer));
  std::erase_if(text, is_ascii_punctuation);
  text = without_articles(text);
  std::vector<std::string> words;
  bool in_word = false;
  for (const char32_t code : text) {
    if (is_space(code)) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    append_utf8(words.back(), code);
  }
  return words;
}

double word_overlap_f1(const std::vector<std::string>& predicted,
                       const std::vector<std::string>& gold, bool empty_is_equal) {
  if (predicted.empty() || gold.empty()) {
    return empty_is_equal && predicted.empty() && gold.empty() ? 1 : 0;
  }
  std::map<std::string_view, int> counts;
  for (const std::string& word : gold) ++counts[word];
  int common = 0;
  for (const std::string& word : predicted) common += counts[word]-- > 0 ? 1 : 0;
  if (common == 0) return 0;
  const double precision = static_cast<double>(common) / static_cast<double>(predicted.size());
  const double recall = static_cast<double>(common) / static_cast<double>(gold.size());
  return 2 * precision * recall / (precision + recall);
}

}  // namespace bert
