// A WordPiece tokenizer's folder in Hugging Face's manner.
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const auto folder = scratch_folder() / "tokenizer";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  for (const auto& [name, content] : split_files(
           as_text(data, size),
           {"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"})) {
    put_file("tokenizer/" + name, content);
  }
  std::unique_ptr<bert::Tokenizer> tokenizer;
  accepts([&] { tokenizer = bert::load_tokenizer(folder); });
  if (tokenizer) use(*tokenizer, as_text(data, size));
  return 0;
}
