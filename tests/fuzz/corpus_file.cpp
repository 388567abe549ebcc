// One file of a prepared corpus (data/shards/corpus_file.h). The first byte says how much of what
// follows is made right before it is read, so that the checksums do not keep everything out: 0
// nothing, 1 the footer's checksum, otherwise all checksums.
#include "data/shards/corpus_file.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {
namespace {

// As data/shards/corpus_file.cpp lays it out.
constexpr std::size_t kFooter = 64, kPayloadBytes = 32, kTableHash = 48, kFooterHash = 56;

void mend_footer(std::string& file) {
  char* footer = file.data() + file.size() - kFooter;
  const std::uint64_t hash = hash_bytes(footer, kFooterHash);
  std::memcpy(footer + kFooterHash, &hash, sizeof hash);
}

void mend_checksums(std::string& file) {
  char* footer = file.data() + file.size() - kFooter;
  std::uint64_t payload = 0;
  std::memcpy(&payload, footer + kPayloadBytes, sizeof payload);
  if (payload > file.size()) return;
  const std::size_t blocks = (payload + kCorpusBlockBytes - 1) / kCorpusBlockBytes;
  if (payload + blocks * sizeof(std::uint64_t) + kFooter != file.size()) return;
  char* table = file.data() + payload;
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t begin = i * kCorpusBlockBytes;
    const std::uint64_t hash =
        hash_bytes(file.data() + begin, std::min(kCorpusBlockBytes, payload - begin));
    std::memcpy(table + i * sizeof hash, &hash, sizeof hash);
  }
  const std::uint64_t hash = hash_bytes(table, blocks * sizeof(std::uint64_t));
  std::memcpy(footer + kTableHash, &hash, sizeof hash);
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  if (size == 0) return 0;
  std::string content(as_text(data + 1, size - 1));
  if (content.size() >= kFooter) {
    if (data[0] > 1) mend_checksums(content);
    if (data[0] > 0) mend_footer(content);
  }
  const auto path = put_file("input.bin", content);
  accepts([&] {
    const bert::CorpusFileInfo info = bert::corpus_file_info(path);
    require(info.element_bytes > 0 && info.payload_bytes < content.size(),
            "what a footer says is possible");
    const bert::CorpusFile file(path, info.kind, info.element_bytes);
    file.verify();
    const std::byte* bytes = file.bytes(0, file.payload_bytes());
    require(std::memcmp(bytes, content.data(), file.payload_bytes()) == 0,
            "the payload is what the file begins with");
  });
  accepts([&] {
    const bert::CorpusArray<std::uint64_t> array(path, "sentences");
    for (std::uint64_t i = 0; i < array.size(); ++i) (void)array[i];
  });
  return 0;
}
