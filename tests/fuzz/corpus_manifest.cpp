// manifest.json of a prepared corpus, as it is and with its checksum made right. What is accepted
// is written and read again.
#include <optional>

#include <nlohmann/json.hpp>

#include "data/shards/corpus.h"
#include "runtime/json.h"
#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {
namespace {

void read(const std::string& text) {
  std::optional<CorpusManifest> manifest;
  accepts([&] { manifest = CorpusManifest::parse(text, "manifest.json"); });
  if (!manifest) return;
  const std::string written = manifest->to_json();
  require(CorpusManifest::parse(written, "written").to_json() == written,
          "a manifest that was written is read as it was");
}

// With the right checksum; nothing where there is none to mend.
std::optional<std::string> mended(const std::string& text) {
  using nlohmann::json;
  if (!accepts([&] { check_json_text(text, "manifest.json"); })) return std::nullopt;
  json manifest = json::parse(text, nullptr, false);
  if (!manifest.is_object() || !manifest.contains("corpus")) return std::nullopt;
  const std::string body = manifest["corpus"].dump();
  manifest["checksum"] = hex64(hash_bytes(body.data(), body.size()));
  return manifest.dump();
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const std::string text(as_text(data, size));
  read(text);
  if (const auto right = mended(text)) read(*right);
  return 0;
}
