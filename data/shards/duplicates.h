// Exact duplicates among any number of texts, by 128-bit hashes (XXH3), in bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>
#include <vector>

namespace bert {

struct TextHash {
  std::uint64_t low = 0, high = 0;
  auto operator<=>(const TextHash&) const = default;
};
static_assert(sizeof(TextHash) == 16);

TextHash hash_text(std::string_view text);
// Of a sequence of texts: begin with {} and fold in the hash of each.
TextHash combine_hashes(const TextHash& sequence, const TextHash& next);

inline constexpr std::string_view kHashesKind = "text hashes";  // of a CorpusFile of them

// Which of the hashes in `files` (CorpusFiles of kHashesKind, one after another) occurred before: a
// bit each. The files are read once per `budget_bytes` of 24 bytes for each hash, so that memory
// is the budget and the answer: 25 MB for 200 million lines. `on_pass(done, passes)` before each.
std::vector<bool> find_duplicates(
    const std::vector<std::filesystem::path>& files, std::size_t budget_bytes,
    const std::function<void(std::uint64_t, std::uint64_t)>& on_pass = {});

}  // namespace bert
