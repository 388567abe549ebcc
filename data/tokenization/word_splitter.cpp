#include "data/tokenization/word_splitter.h"

#include <algorithm>
#include <limits>

#include <utf8proc.h>

#include "data/text/unicode.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr char32_t kCapitalSigma = 0x3A3;
constexpr std::string_view kFinalSigma = "\xcf\x82";
constexpr std::uint16_t kNothing = 1;  // the mapping of a stripped accent

}  // namespace

std::string_view compat_mode_name(CompatMode mode) {
  return mode == CompatMode::kGoogle ? "google" : "huggingface";
}

CompatMode parse_compat_mode(std::string_view name) {
  if (name == "huggingface") return CompatMode::kHuggingFace;
  if (name == "google") return CompatMode::kGoogle;
  throw_input_error("unknown tokenizer mode '{}': expected huggingface or google", name);
}

WordSplitter::WordSplitter(const WordSplitterOptions& options)
    : options_(options), table_(kTableSize), mapping_begin_{0, 0, 0} {
  // Mapping 0 is never looked up, mapping 1 is the empty text.
  if (options.mode == CompatMode::kGoogle) {
    fill_google();
  } else {
    fill_huggingface();
  }
  fill_bytes();
}

WordSplitter::CharFact& WordSplitter::fact_ref(char32_t code) {
  BERT_CHECK(code < kTableSize);
  return table_[code];
}

const WordSplitter::CharFact& WordSplitter::high_fact(char32_t code) const {
  static constexpr CharFact kNone{};
  for (const HighRange& range : high_) {
    if (code >= range.first && code <= range.last) return range.fact;
  }
  return kNone;
}

void WordSplitter::set_flag(char32_t first, char32_t last, Flag flag) {
  for (char32_t code = first; code <= last && code < kTableSize; ++code) {
    table_[code].flags = static_cast<std::uint8_t>(table_[code].flags | flag);
  }
  if (last >= kTableSize) {
    high_.push_back({std::max(first, kTableSize), last, CharFact{flag, 0, 0}});
  }
}

void WordSplitter::set_mapping(char32_t code, std::u32string_view codes) {
  if (codes.empty()) {
    fact_ref(code).mapping = kNothing;
    return;
  }
  for (const char32_t c : codes) append_utf8(mapped_, c);
  BERT_CHECK(mapping_begin_.size() < std::numeric_limits<std::uint16_t>::max());
  fact_ref(code).mapping = static_cast<std::uint16_t>(mapping_begin_.size() - 1);
  mapping_begin_.push_back(static_cast<std::uint32_t>(mapped_.size()));
}

void WordSplitter::fill_huggingface() {
  namespace hf = huggingface_unicode;
  const auto flag_all = [&](std::span<const CodeRange> ranges, Flag flag) {
    for (const CodeRange& range : ranges) set_flag(range.first, range.last, flag);
  };
  if (options_.clean_text) {
    flag_all(hf::dropped, kDropped);
    flag_all(hf::spaces, kSpace);
  }
  flag_all(hf::word_breaks, kBreak);
  flag_all(hf::punctuation, kPunctuation);
  if (options_.split_ideographs) flag_all(hf::ideographs, kIdeograph);

  // Lower case of single characters, to be applied after the accents are gone.
  std::vector<std::u32string> lower(options_.lowercase ? kTableSize : 0);
  if (options_.lowercase) {
    for (const CodeShift& shift : hf::lower_shifts) {
      for (char32_t code = shift.first; code <= shift.last; code += shift.step) {
        lower[code] = static_cast<char32_t>(static_cast<std::int32_t>(code) + shift.delta);
      }
    }
    for (const CodeMapping& item : hf::lower_mappings) {
      lower[item.from] = std::u32string(item.to, std::find(item.to, item.to + 3, U'\0'));
    }
  }
  const auto lowered = [&](std::u32string_view codes) {
    std::u32string result;
    for (const char32_t code : codes) {
      if (options_.lowercase && !lower[code].empty()) {
        result += lower[code];
      } else {
        result += code;
      }
    }
    return result;
  };
  for (char32_t code = 0; code < lower.size(); ++code) {
    if (!lower[code].empty()) set_mapping(code, lower[code]);
  }
  if (!options_.strip_accents) return;
  for (const CodeMapping& item : hf::decompositions) {
    const char32_t* const end = std::find(item.to, item.to + 3, U'\0');
    set_mapping(item.from, lowered({item.to, static_cast<std::size_t>(end - item.to)}));
  }
  for (char32_t code = 0xAC00; is_hangul_syllable(code); ++code) {
    char32_t jamo[3];
    const int count = decompose_hangul(code, jamo);
    set_mapping(code, {jamo, static_cast<std::size_t>(count)});
  }
  for (const CodeRange& range : hf::accents) {
    for (char32_t code = range.first; code <= range.last && code < kTableSize; ++code) {
      set_mapping(code, {});
    }
    if (range.last >= kTableSize) {
      high_.push_back({range.first, range.last, CharFact{kStarterAccent, 0, kNothing}});
    }
  }
  for (const CodeRange& range : hf::starter_accents) {
    if (range.last < kTableSize) set_flag(range.first, range.last, kStarterAccent);
  }
  for (const CodeClass& item : hf::kept_classes) {
    for (char32_t code = item.first; code <= item.last; ++code) {
      fact_ref(code).combining_class = item.value;
    }
  }
}

void WordSplitter::fill_google() {
  const auto fact_of = [&](char32_t code, CharFact& fact) {
    const utf8proc_property_t* property =
        utf8proc_get_property(static_cast<utf8proc_int32_t>(code));
    const auto category = static_cast<utf8proc_category_t>(property->category);
    unsigned flags = 0;
    const bool blank = code == '\t' || code == '\n' || code == '\r';
    if (options_.clean_text) {
      const bool control = category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF;
      if (blank || category == UTF8PROC_CATEGORY_ZS) {
        flags |= kSpace;
      } else if (control || code == kReplacementCharacter) {
        flags |= kDropped;
      }
    }
    // str.split() of Python
    if (blank || (category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP)) {
      flags |= kBreak;
    }
    const bool ascii_symbol = code < 0x7F && code > 0x20 && !(code >= '0' && code <= '9') &&
                              !(code >= 'A' && code <= 'Z') && !(code >= 'a' && code <= 'z');
    if (ascii_symbol || (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO)) {
      flags |= kPunctuation;
    }
    if (options_.strip_accents) {
      if (category == UTF8PROC_CATEGORY_MN) {
        fact.mapping = kNothing;
        if (property->combining_class == 0) flags |= kStarterAccent;
      } else {
        fact.combining_class = static_cast<std::uint8_t>(property->combining_class);
      }
    }
    fact.flags = static_cast<std::uint8_t>(flags);
  };
  for (char32_t code = 0; code < kTableSize; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    fact_of(code, table_[code]);
    if (table_[code].mapping == kNothing) continue;
    const auto lower =
        options_.lowercase
            ? static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)))
            : code;
    if (!options_.strip_accents) {
      if (lower != code) set_mapping(code, {&lower, 1});
      continue;
    }
    utf8proc_int32_t parts[8];
    int last_bound_class = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(
        static_cast<utf8proc_int32_t>(lower), parts, 8, UTF8PROC_DECOMPOSE, &last_bound_class);
    BERT_CHECK(count >= 1 && count <= 8);
    std::u32string kept;
    for (utf8proc_ssize_t i = 0; i < count; ++i) {
      if (utf8proc_category(parts[i]) != UTF8PROC_CATEGORY_MN) {
        kept += static_cast<char32_t>(parts[i]);
      }
    }
    if (kept != std::u32string(1, code)) set_mapping(code, kept);
  }
  if (options_.split_ideographs) {
    constexpr CodeRange kIdeographs[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
                                         {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B820, 0x2CEAF},
                                         {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (const CodeRange& range : kIdeographs) set_flag(range.first, range.last, kIdeograph);
  }
  if (options_.lowercase) set_flag(kCapitalSigma, kCapitalSigma, kSigma);
  for (char32_t code = 0xE0000; code < 0xE0200; ++code) {  // tags and variation selectors
    CharFact fact;
    fact_of(code, fact);
    if (fact.flags != 0 || fact.mapping != 0) high_.push_back({code, code, fact});
  }
}

void WordSplitter::fill_bytes() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_kind_[byte] = kOther;
    if (byte >= 128) continue;
    const CharFact& fact = table_[byte];
    byte_lower_[byte] = fact.mapping == 0 ? static_cast<char>(byte) : mapping(fact.mapping)[0];
    const bool ends_word =
        (fact.flags & kSpace) != 0 || ((fact.flags & kBreak) != 0 && (fact.flags & kDropped) == 0);
    if (ends_word) {
      byte_kind_[byte] = kSpaceByte;
    } else if (fact.flags == kPunctuation) {
      byte_kind_[byte] = kPunctuationByte;
    } else if (fact.flags == 0) {
      byte_kind_[byte] = kPlain;
    }
  }
}

// Python's rule: a capital sigma is final after a cased letter and not before one, characters that
// are neither (marks, modifiers, apostrophes) being passed over.
bool WordSplitter::sigma_is_final(std::string_view text, std::size_t position) const {
  enum class Kind { kIgnorable, kCased, kUncased };
  const auto kind = [&](char32_t code) {
    if (fact(code).flags & kDropped) return Kind::kIgnorable;
    if (fact(code).flags & (kSpace | kBreak | kIdeograph)) return Kind::kUncased;
    if (is_case_ignorable(code)) return Kind::kIgnorable;
    return is_cased(code) ? Kind::kCased : Kind::kUncased;
  };
  bool after_cased = false;
  for (std::size_t i = position; i > 0;) {
    std::size_t start = i - 1;
    while (start > 0 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
    const Kind found = kind(decode_utf8(text, start).code);
    i = start;
    if (found == Kind::kIgnorable) continue;
    after_cased = found == Kind::kCased;
    break;
  }
  if (!after_cased) return false;
  for (std::size_t i = position + 2; i < text.size();) {
    const DecodedChar c = decode_utf8(text, i);
    i += c.size;
    const Kind found = kind(c.code);
    if (found != Kind::kIgnorable) return found != Kind::kCased;
  }
  return true;
}

WordSplitter::Scanner::Scanner(const WordSplitter& splitter, std::string_view text)
    : splitter_(splitter), text_(text) {
  BERT_CHECK(text.size() < std::numeric_limits<std::uint32_t>::max(), "text of {} bytes",
             text.size());
}

// A word of ASCII alone. False if there is none here; what was read of one that goes on with other
// characters is then in word_.
bool WordSplitter::Scanner::next_plain(SplitWord& word) {
  const auto kind = [&](std::size_t i) {
    return splitter_.byte_kind_[static_cast<unsigned char>(text_[i])];
  };
  while (position_ < text_.size() && kind(position_) == kSpaceByte) ++position_;
  const std::size_t begin = position_;
  std::size_t end = begin;
  while (end < text_.size() && kind(end) == kPlain) ++end;
  if (end == begin && end < text_.size() && kind(end) == kPunctuationByte) {
    ++end;
  } else if (end < text_.size() && kind(end) == kOther) {
    // The word goes on with something else; or that something starts one.
    for (std::size_t i = begin; i < end; ++i) {
      word_.push_back(splitter_.byte_lower_[static_cast<unsigned char>(text_[i])]);
      bytes_.push_back({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i + 1)});
    }
    position_ = end;
    return false;
  }
  position_ = end;
  if (end == begin) return false;
  word_.resize(end - begin);
  for (std::size_t i = begin; i < end; ++i) {
    word_[i - begin] = splitter_.byte_lower_[static_cast<unsigned char>(text_[i])];
  }
  word = {word_, static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end), nullptr};
  return true;
}

bool WordSplitter::Scanner::finish(SplitWord& word) {
  word = {word_, bytes_.front().begin, bytes_.back().end, bytes_.data()};
  return true;
}

void WordSplitter::Scanner::append(std::string_view bytes, std::uint8_t combining_class) {
  std::size_t offset = word_.size();
  if (combining_class == 0) {
    combining_.clear();
  } else {
    // Canonical order: combining characters sorted by class, equals as they came.
    const auto place = std::find_if(
        combining_.begin(), combining_.end(),
        [&](const Combining& other) { return other.combining_class > combining_class; });
    if (place != combining_.end()) offset = place->offset;
    for (auto later = place; later != combining_.end(); ++later) later->offset += bytes.size();
    combining_.insert(place, Combining{combining_class, offset});
  }
  word_.insert(offset, bytes);
  bytes_.insert(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), bytes.size(),
                pending_source_);
}

// Moves the pending characters to word_; true when that makes word_ complete.
bool WordSplitter::Scanner::take_pending() {
  while (!pending_.empty()) {
    const DecodedChar c = decode_utf8(pending_, 0);
    const CharFact& fact = splitter_.fact(c.code);
    if (fact.flags & (kBreak | kPunctuation)) {
      if (!word_.empty()) return true;  // and it stays pending
      if (fact.flags & kPunctuation) append(pending_.substr(0, c.size), 0);
      pending_.remove_prefix(c.size);
      if (!word_.empty()) return true;
      continue;
    }
    append(pending_.substr(0, c.size), fact.combining_class);
    pending_.remove_prefix(c.size);
  }
  return false;
}

// Reads one character into pending_, or leaves it if it must begin a word and word_ has begun.
void WordSplitter::Scanner::read_char() {
  const DecodedChar c = decode_utf8(text_, position_);
  const CharFact& fact = splitter_.fact(c.code);
  if (fact.flags & kDropped) {
    position_ += c.size;
    return;
  }
  if (fact.flags & kSpace) {
    position_ += c.size;
    word_ended_ = true;
    return;
  }
  if (fact.flags & kIdeograph) {
    set_apart_ = true;
    if (!word_.empty()) return;
  }
  if (fact.flags & kStarterAccent) combining_.clear();
  pending_source_ = {static_cast<std::uint32_t>(position_),
                     static_cast<std::uint32_t>(position_ + c.size)};
  if ((fact.flags & kSigma) && splitter_.sigma_is_final(text_, position_)) {
    pending_ = kFinalSigma;
  } else {
    pending_ =
        fact.mapping == 0 ? text_.substr(position_, c.size) : splitter_.mapping(fact.mapping);
  }
  // Invalid bytes that are not cleaned away (clean_text off) are still U+FFFD.
  if (!c.valid) pending_ = "\xef\xbf\xbd";
  position_ += c.size;
}

bool WordSplitter::Scanner::next(SplitWord& word) {
  word_.clear();
  bytes_.clear();
  combining_.clear();
  if (pending_.empty()) {
    set_apart_ = word_ended_ = false;
    if (next_plain(word)) return true;
  }
  while (true) {
    if (take_pending()) return finish(word);
    // The end of an ideograph, of a word before one, or of a word before a space.
    if (std::exchange(set_apart_, false) || std::exchange(word_ended_, false)) {
      word_ended_ = false;
      if (!word_.empty()) return finish(word);
    }
    if (position_ == text_.size()) return !word_.empty() && finish(word);
    read_char();
  }
}

}  // namespace bert
