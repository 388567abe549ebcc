#include "data/shards/duplicates.h"

#include <algorithm>
#include <array>

#include <xxhash.h>

#include "data/shards/corpus_file.h"

namespace bert {

TextHash hash_text(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.low64, hash.high64};
}

TextHash combine_hashes(const TextHash& sequence, const TextHash& next) {
  const std::array<TextHash, 2> both{sequence, next};
  return hash_text({reinterpret_cast<const char*>(both.data()), sizeof both});
}

std::vector<bool> find_duplicates(
    const std::vector<std::filesystem::path>& files, std::size_t budget_bytes,
    const std::function<void(std::uint64_t, std::uint64_t)>& on_pass) {
  struct Entry {
    TextHash hash;
    std::uint64_t index;
    auto operator<=>(const Entry&) const = default;
  };
  std::uint64_t total = 0;
  for (const auto& file : files) total += CorpusArray<TextHash>(file, kHashesKind).size();
  std::vector<bool> duplicate(total);
  // Each pass looks at the hashes in its share of their range. Hashes are uniform: a share is as
  // large as another, but for chance and for what is repeated, which is what this is about.
  const std::uint64_t per_pass = std::max<std::uint64_t>(budget_bytes / sizeof(Entry), 1);
  const std::uint64_t passes = std::max<std::uint64_t>((total + per_pass - 1) / per_pass, 1);
  const std::uint64_t range = ~std::uint64_t{0} / passes + 1;  // 0: all, in one pass
  std::vector<Entry> entries;
  for (std::uint64_t pass = 0; pass < passes; ++pass) {
    if (on_pass) on_pass(pass, passes);
    entries.clear();
    // What occurs again and again is thrown out as it comes too often to wait for the end.
    const auto mark = [&] {
      std::sort(entries.begin(), entries.end());
      std::size_t kept = 0;
      for (const Entry& entry : entries) {
        if (kept > 0 && entries[kept - 1].hash == entry.hash) {
          duplicate[entry.index] = true;
        } else {
          entries[kept++] = entry;
        }
      }
      entries.resize(kept);
    };
    std::uint64_t index = 0, limit = per_pass + per_pass / 8 + 1024;
    entries.reserve(std::min(limit, total));
    for (const auto& file : files) {
      const CorpusArray<TextHash> hashes(file, kHashesKind);
      for (const TextHash& hash : hashes.span(0, hashes.size())) {
        if (range == 0 || hash.high / range == pass) {
          if (entries.size() >= limit) {
            mark();
            limit = std::max(limit, entries.size() + per_pass / 8 + 1024);
          }
          entries.push_back({hash, index});
        }
        ++index;
      }
    }
    mark();
  }
  return duplicate;
}

}  // namespace bert
