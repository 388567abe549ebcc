// Tokenizer: text to vocabulary ids and back. Two implementations: WordpieceTokenizer and
// SentencepieceTokenizer. load_tokenizer picks the right one from what lies at a path.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

// One piece of a text: its id, the byte range [begin, end) of the text as given, and whether it
// starts a word (WordPiece: no "##"; SentencePiece: U+2581), which whole-word masking needs.
struct Token {
  std::int32_t id = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
  bool starts_word = true;
};

// Something for each of BERT's special tokens.
template <typename T>
struct ForSpecialTokens {
  T pad{}, unk{}, cls{}, sep{}, mask{};

  // f(name, member) for each.
  template <typename Function>
  static void for_each(Function f) {
    f("pad", &ForSpecialTokens::pad);
    f("unk", &ForSpecialTokens::unk);
    f("cls", &ForSpecialTokens::cls);
    f("sep", &ForSpecialTokens::sep);
    f("mask", &ForSpecialTokens::mask);
  }
  bool contains(const T& value) const {
    return value == pad || value == unk || value == cls || value == sep || value == mask;
  }
};
using SpecialTokens = ForSpecialTokens<std::int32_t>;     // ids
using SpecialTokenNames = ForSpecialTokens<std::string>;  // as they are written
inline const SpecialTokenNames kBertSpecialTokens{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Appends the pieces of `text` (UTF-8) to `out`, without [CLS] or [SEP]. "[MASK]" and the other
  // special tokens are recognised in the text only if `parse_special_tokens`. Thread-safe.
  virtual void encode(std::string_view text, std::vector<Token>& out,
                      bool parse_special_tokens = false) const = 0;
  // Readable text of ids: pieces joined, special tokens kept as they are written.
  virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;

  virtual std::int32_t vocab_size() const = 0;
  virtual std::string_view piece(std::int32_t id) const = 0;  // "##ing", "[MASK]", "\u2581the"
  // Whether `id` begins a word when found in running text; false for special tokens, except that
  // WordPiece's [UNK] is a word.
  virtual bool starts_word(std::int32_t id) const = 0;
  virtual const SpecialTokens& special() const = 0;
  // Whether encode() takes it whole when it is asked to parse special tokens.
  virtual bool is_special(std::int32_t id) const = 0;

  // Writes the files by which this and Hugging Face's AutoTokenizer load it again.
  virtual void save(const std::filesystem::path& folder) const = 0;
  // xxh64, 16 hex digits, of everything that decides the ids (vocabulary, cased, mode).
  virtual std::string fingerprint() const = 0;
};

// Whose rules split text into words, see data/tokenization/word_splitter.h. They differ in rare
// characters.
enum class CompatMode { kHuggingFace, kGoogle };

struct TokenizerOptions {
  // Only for a bare vocab.txt; a folder says it itself.
  bool cased = false;
  CompatMode mode = CompatMode::kHuggingFace;
};

// `path`: a folder written by save() or by Hugging Face, a vocab.txt, or a SentencePiece .model.
// InputError when nothing usable is there.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path,
                                          const TokenizerOptions& options = {});

}  // namespace bert
