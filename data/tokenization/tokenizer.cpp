#include "data/tokenization/tokenizer.h"

#include "data/tokenization/sentencepiece_tokenizer.h"
#include "data/tokenization/wordpiece_files.h"
#include "runtime/error.h"

namespace bert {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path,
                                          const TokenizerOptions& options) {
  namespace fs = std::filesystem;
  constexpr const char* kExpected =
      "expected a folder with tokenizer.json or vocab.txt, a vocab.txt, or a SentencePiece .model";
  if (!fs::exists(path)) throw_input_error("no tokenizer at {}: {}", path.string(), kExpected);
  if (!fs::is_directory(path)) {
    if (path.filename() == "tokenizer.json") {
      return load_tokenizer(path.has_parent_path() ? path.parent_path() : fs::path("."), options);
    }
    if (path.extension() == ".model") return load_sentencepiece(path);
    return load_wordpiece_vocab(path, wordpiece_options(options.cased, options.mode));
  }
  // A SentencePiece model decides, where there is one: the tokenizer.json beside it is made from
  // it.
  if (!find_sentencepiece_model(path).empty()) return load_sentencepiece(path);
  if (fs::exists(path / "tokenizer.json") || fs::exists(path / "vocab.txt")) {
    return load_wordpiece_folder(path);
  }
  throw_input_error("the folder {} holds no tokenizer: {}", path.string(), kExpected);
}

}  // namespace bert
