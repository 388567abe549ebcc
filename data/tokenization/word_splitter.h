// WordSplitter: BERT's "basic" tokenization, from text to normalised words with their places in the
// text. WordPiece then cuts each word; the vocabulary trainer counts them.
//
// Two modes, each like the system it is named after:
//   huggingface  BertNormalizer and BertPreTokenizer of huggingface/tokenizers, character for
//                character (the tables of data/text/unicode.h)
//   google       tokenization.py of google-research/bert, with the categories of this machine's
//                Unicode library (utf8proc)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenization/tokenizer.h"

namespace bert {

std::string_view compat_mode_name(CompatMode mode);   // "huggingface", "google"
CompatMode parse_compat_mode(std::string_view name);  // InputError for another name

struct WordSplitterOptions {
  CompatMode mode = CompatMode::kHuggingFace;
  bool lowercase = true;
  bool strip_accents = true;     // canonical decomposition, then no non-spacing marks
  bool split_ideographs = true;  // each CJK ideograph is a word
  bool clean_text = true;        // control characters vanish
};

struct SourceRange {
  std::uint32_t begin = 0, end = 0;
};

// A normalised word. Byte i of it stands for bytes `bytes[i]` of the source text, or, where `bytes`
// is null, for [begin + i, begin + i + 1): pure ASCII.
struct SplitWord {
  std::string_view text;
  std::uint32_t begin = 0, end = 0;  // its place in the source text
  const SourceRange* bytes = nullptr;
};

class WordSplitter {
 public:
  explicit WordSplitter(const WordSplitterOptions& options);
  const WordSplitterOptions& options() const { return options_; }

  // The words of one text, one after the other. Invalid UTF-8 counts as U+FFFD, which vanishes.
  // `splitter` and `text` must outlive the scanner. Text of at most 4 GiB.
  class Scanner {
   public:
    Scanner(const WordSplitter& splitter, std::string_view text);
    // False at the end. `word` stays valid until the next call.
    bool next(SplitWord& word);

   private:
    bool next_plain(SplitWord& word);
    bool take_pending();
    void read_char();
    void append(std::string_view bytes, std::uint8_t combining_class);
    bool finish(SplitWord& word);

    const WordSplitter& splitter_;
    std::string_view text_;
    std::size_t position_ = 0;
    std::string word_;
    std::vector<SourceRange> bytes_;
    // What the last character read became and is still to be dealt with, and where it stood.
    std::string_view pending_;
    SourceRange pending_source_;
    bool set_apart_ = false;   // the last character read was an ideograph
    bool word_ended_ = false;  // white space was read
    // The combining characters at the end of word_, for the canonical order.
    struct Combining {
      std::uint8_t combining_class;
      std::size_t offset;
    };
    std::vector<Combining> combining_;
  };

 private:
  enum Flag : std::uint8_t {
    kDropped = 1,         // vanishes
    kSpace = 2,           // ends a word, before normalisation
    kBreak = 4,           // ends a word, after it
    kPunctuation = 8,     // is a word
    kIdeograph = 16,      // is set apart
    kStarterAccent = 32,  // is stripped, and ends a run of combining characters
    kSigma = 64,          // google mode: its lower case depends on its neighbours
  };
  struct CharFact {
    std::uint8_t flags = 0;
    std::uint8_t combining_class = 0;  // 0 where no canonical order is made
    std::uint16_t mapping = 0;         // 0: itself; else what mapping(i) says
  };
  enum ByteKind : std::uint8_t { kPlain, kSpaceByte, kPunctuationByte, kOther };

  void fill_huggingface();
  void fill_google();
  void fill_bytes();
  void set_flag(char32_t first, char32_t last, Flag flag);
  void set_mapping(char32_t code, std::u32string_view codes);
  CharFact& fact_ref(char32_t code);
  const CharFact& fact(char32_t code) const {
    return code < kTableSize ? table_[code] : high_fact(code);
  }
  const CharFact& high_fact(char32_t code) const;
  std::string_view mapping(std::uint16_t index) const {
    return std::string_view(mapped_).substr(mapping_begin_[index],
                                            mapping_begin_[index + 1u] - mapping_begin_[index]);
  }
  bool sigma_is_final(std::string_view text, std::size_t position) const;

  static constexpr char32_t kTableSize = 0x30000;  // beyond it little is assigned
  WordSplitterOptions options_;
  std::vector<CharFact> table_;  // [kTableSize]
  struct HighRange {
    char32_t first, last;
    CharFact fact;
  };
  std::vector<HighRange> high_;
  std::string mapped_;
  std::vector<std::uint32_t> mapping_begin_;
  ByteKind byte_kind_[256] = {};
  char byte_lower_[128] = {};
};

}  // namespace bert
