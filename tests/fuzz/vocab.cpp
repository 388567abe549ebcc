// A bare vocab.txt.
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const auto path = put_file("vocab.txt", as_text(data, size));
  std::unique_ptr<bert::Tokenizer> tokenizer;
  accepts([&] { tokenizer = bert::load_tokenizer(path); });
  if (tokenizer) use(*tokenizer, as_text(data, size));
  return 0;
}
