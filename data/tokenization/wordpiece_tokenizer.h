// WordpieceTokenizer: BERT's tokenizer. Words (data/tokenization/word_splitter.h) are cut into
// pieces greedily, longest match first; continuing pieces carry "##"; a word that cannot be cut is
// [UNK] as a whole (Wu et al. 2016, arXiv:1609.08144; the result as in google-research/bert). The
// time is linear in the text (data/tokenization/wordpiece_matcher.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/tokenization/special_splitter.h"
#include "data/tokenization/tokenizer.h"
#include "data/tokenization/word_splitter.h"
#include "data/tokenization/wordpiece_matcher.h"

namespace bert {

struct WordpieceOptions {
  WordSplitterOptions splitter;
  SpecialTokenNames special = kBertSpecialTokens;
  std::size_t max_word_chars = 100;  // a longer word is [UNK]; 200 in google-research/bert
  // Further tokens that encode() takes whole when it is asked to parse special tokens.
  std::vector<std::string> extra_special;
};

// Options of the two modes: uncased means lower-cased and without accents.
WordpieceOptions wordpiece_options(bool cased, CompatMode mode = CompatMode::kHuggingFace);

class WordpieceTokenizer final : public Tokenizer {
 public:
  // `pieces` in the order of their ids. InputError, naming `source`, for an empty vocabulary, an
  // empty or repeated piece, invalid UTF-8, or a special token that is not among them.
  WordpieceTokenizer(std::vector<std::string> pieces, WordpieceOptions options,
                     std::string_view source = "the vocabulary");

  void encode(std::string_view text, std::vector<Token>& out,
              bool parse_special_tokens = false) const override;
  std::string decode(const std::vector<std::int32_t>& ids) const override;
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(pieces_.size()); }
  std::string_view piece(std::int32_t id) const override;
  bool starts_word(std::int32_t id) const override;
  const SpecialTokens& special() const override { return special_; }
  bool is_special(std::int32_t id) const override {
    return is_special_[static_cast<std::size_t>(id)];
  }
  // vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json.
  void save(const std::filesystem::path& folder) const override;
  std::string fingerprint() const override;

  const WordpieceOptions& options() const { return options_; }
  const std::vector<std::string>& pieces() const { return pieces_; }

 private:
  void encode_plain(std::string_view text, std::uint32_t offset, std::vector<Token>& out) const;
  void encode_word(const SplitWord& word, std::uint32_t offset, std::vector<Token>& out) const;

  std::vector<std::string> pieces_;
  WordpieceOptions options_;
  WordSplitter splitter_;
  SpecialTokens special_;
  std::vector<bool> is_special_;  // [vocab_size]
  WordpieceMatcher matcher_;
  SpecialSplitter special_splitter_;
};

}  // namespace bert
