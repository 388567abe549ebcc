// A SentencePiece .model with, perhaps, a tokenizer_config.json beside it, and what reads the
// messages that the library gives (data/tokenization/wire_format.h).
#include "data/tokenization/wire_format.h"
#include "tests/fuzz/use_tokenizer.h"

namespace bert::fuzz {
namespace {

void read_fields(std::string_view message, int depth) {
  WireReader reader(message);
  while (const auto field = reader.next()) {
    require(field->bytes.size() <= message.size(), "a field is a part of its message");
    if (depth < 4) read_fields(field->bytes, depth + 1);
  }
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  read_fields(as_text(data, size), 0);
  const auto folder = scratch_folder() / "tokenizer";
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  for (const auto& [name, content] :
       split_files(as_text(data, size), {"spiece.model", "tokenizer_config.json"})) {
    put_file("tokenizer/" + name, content);
  }
  std::unique_ptr<bert::Tokenizer> tokenizer;
  accepts([&] { tokenizer = bert::load_tokenizer(folder); });
  if (tokenizer) use(*tokenizer, "ba ko mi santu");
  return 0;
}
