// UTF-8 and the character facts that BERT's tokenizers rest on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace bert {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct DecodedChar {
  char32_t code = 0;
  std::uint32_t size = 0;  // bytes read, at least 1
  bool valid = true;       // false: code is U+FFFD and size covers the maximal invalid part
};

// The character at text[position]; position < text.size(). Overlong forms, surrogates and codes
// over U+10FFFF are invalid. Invalid parts are delimited as in the Unicode standard (3.9, "maximal
// subparts"), which is what Python and Rust do too.
DecodedChar decode_utf8(std::string_view text, std::size_t position);

void append_utf8(std::string& text, char32_t code);
std::string to_utf8(std::u32string_view codes);

bool is_valid_utf8(std::string_view text);
// `text` with each invalid part replaced by U+FFFD; adds the number of parts to `replaced`.
std::string replace_invalid_utf8(std::string_view text, std::uint64_t& replaced);
// Characters of valid UTF-8.
std::size_t count_utf8(std::string_view text);

// Hugging Face's `tokenizers` does not follow the Unicode of the day: each of its classes is frozen
// to some older version, and the vocabularies of the world were made with them. These tables
// (unicode_tables.cpp, written by tests/reference/make_unicode_tables.py) hold its behaviour.
struct CodeRange {
  char32_t first, last;
};
struct CodeClass {  // canonical combining class
  char32_t first, last;
  std::uint8_t value;
};
// Codes first, first + step, ... last become code + delta.
struct CodeShift {
  char32_t first, last;
  std::uint32_t step;
  std::int32_t delta;
};
struct CodeMapping {
  char32_t from;
  char32_t to[3];  // zero-terminated if shorter
};

namespace huggingface_unicode {
extern const std::span<const CodeRange> dropped;           // by BertNormalizer's clean_text
extern const std::span<const CodeRange> spaces;            // what clean_text makes a space
extern const std::span<const CodeRange> word_breaks;       // white space to BertPreTokenizer
extern const std::span<const CodeRange> punctuation;       // its own word to BertPreTokenizer
extern const std::span<const CodeRange> ideographs;        // set apart by handle_chinese_chars
extern const std::span<const CodeRange> accents;           // removed by strip_accents
extern const std::span<const CodeRange> starter_accents;   // those with combining class 0
extern const std::span<const CodeClass> kept_classes;      // combining characters that are kept
extern const std::span<const CodeMapping> decompositions;  // NFD without accents; Hangul is not in
                                                           // here (decompose_hangul)
extern const std::span<const CodeShift> lower_shifts;      // lower case, one character to one
extern const std::span<const CodeMapping> lower_mappings;  // lower case, the others
}  // namespace huggingface_unicode

// The properties Cased and Case_Ignorable (Unicode 3.13), which decide how a capital sigma ends up
// in lower case: it is final after a cased character and not before one, ignorable ones passed
// over.
bool is_cased(char32_t code);
bool is_case_ignorable(char32_t code);

inline bool is_hangul_syllable(char32_t code) { return code >= 0xAC00 && code <= 0xD7A3; }
// The two or three jamo of a Hangul syllable (Unicode 3.12); returns their number.
int decompose_hangul(char32_t code, char32_t jamo[3]);

}  // namespace bert
