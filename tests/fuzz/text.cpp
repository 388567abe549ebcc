// Any bytes as a text to tokenize: the decoding of UTF-8, and words and pieces in both modes.
#include "data/text/unicode.h"
#include "data/tokenization/wordpiece_tokenizer.h"
#include "tests/fuzz/use_tokenizer.h"

namespace bert::fuzz {
namespace {

void check_utf8(std::string_view text) {
  std::uint64_t replaced = 0;
  const std::string valid = replace_invalid_utf8(text, replaced);
  require(is_valid_utf8(valid), "what was mended is valid");
  require(is_valid_utf8(text) == (replaced == 0), "only what is invalid is replaced");
  require(replaced > 0 || valid == text, "valid text stays as it is");
  std::size_t characters = 0;
  for (std::size_t i = 0; i < text.size();) {
    const DecodedChar c = decode_utf8(text, i);
    require(c.size > 0 && c.size <= text.size() - i, "a character lies in its text");
    i += c.size;
    ++characters;
  }
  require(count_utf8(valid) == characters, "characters are counted as they are decoded");
}

WordpieceTokenizer tokenizer(bool cased, CompatMode mode) {
  return WordpieceTokenizer({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "un",
                             "##aff", "##able", "the", "e", "##e", "\u4e2d", ".", ",", "##s"},
                            wordpiece_options(cased, mode));
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  using bert::CompatMode;
  // Filling the tables of more would take longer than all inputs.
  static const bert::WordpieceTokenizer tokenizers[] = {tokenizer(false, CompatMode::kHuggingFace),
                                                        tokenizer(true, CompatMode::kGoogle)};
  check_utf8(as_text(data, size));
  for (const auto& each : tokenizers) encode_and_decode(each, as_text(data, size));
  return 0;
}
