// SentencepieceTokenizer: unigram or BPE pieces over raw text, U+2581 marking where words start
// (Kudo and Richardson 2018, arXiv:1808.06226), through the SentencePiece library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenization/special_splitter.h"
#include "data/tokenization/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace bert {

class SentencepieceTokenizer final : public Tokenizer {
 public:
  // `model`: the content of a .model file. Its special tokens go by the names of BERT ([CLS]), of
  // RoBERTa (<s>), or by those in `names` that are not empty. InputError naming `source` where the
  // model is damaged or lacks one of the five.
  SentencepieceTokenizer(std::string model, std::string_view source,
                         const SpecialTokenNames& names = {});
  ~SentencepieceTokenizer() override;

  // Special tokens are control pieces, which the library never finds in text; a part of the text
  // between two of them is tokenized by itself.
  void encode(std::string_view text, std::vector<Token>& out,
              bool parse_special_tokens = false) const override;
  std::string decode(const std::vector<std::int32_t>& ids) const override;
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(pieces_.size()); }
  std::string_view piece(std::int32_t id) const override;
  // False for the unknown piece, which may stand anywhere in a word.
  bool starts_word(std::int32_t id) const override;
  const SpecialTokens& special() const override { return special_; }
  bool is_special(std::int32_t id) const override { return special_.contains(id); }
  // spiece.model, tokenizer.json, tokenizer_config.json and special_tokens_map.json. By
  // tokenizer.json Hugging Face cuts text as the library does, but for near ties of unigram scores,
  // which it adds in double precision, and letters with combining marks, which it normalises by
  // other rules.
  void save(const std::filesystem::path& folder) const override;
  std::string fingerprint() const override;

  const std::string& model() const { return model_; }

 private:
  void encode_plain(std::string_view text, std::uint32_t offset, std::vector<Token>& out) const;

  std::string model_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::vector<std::string> pieces_;
  SpecialTokens special_;
  SpecialSplitter special_splitter_;
};

// A .model file, or a folder with exactly one.
std::unique_ptr<SentencepieceTokenizer> load_sentencepiece(const std::filesystem::path& path);
// The .model of a folder; empty if there is none, InputError if there are several.
std::filesystem::path find_sentencepiece_model(const std::filesystem::path& folder);

void save_sentencepiece(const SentencepieceTokenizer& tokenizer,
                        const std::filesystem::path& folder);

}  // namespace bert
