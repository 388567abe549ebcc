#include "runtime/communicator.h"

#include <algorithm>

namespace bert {

std::vector<std::string> Communicator::all_gather(const std::string& text) {
  const auto ranks = static_cast<std::size_t>(size()), mine = static_cast<std::size_t>(rank());
  std::vector<std::int64_t> lengths(ranks);
  lengths[mine] = static_cast<std::int64_t>(text.size());
  all_reduce_sum(lengths);
  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  // Each fills its own row of zeros; their sum has all rows.
  std::vector<std::int64_t> bytes(ranks * longest);
  for (std::size_t i = 0; i < text.size(); ++i) {
    bytes[mine * longest + i] = static_cast<unsigned char>(text[i]);
  }
  if (!bytes.empty()) all_reduce_sum(bytes);
  std::vector<std::string> texts(ranks);
  for (std::size_t r = 0; r < ranks; ++r) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(lengths[r]); ++i) {
      texts[r] += static_cast<char>(bytes[r * longest + i]);
    }
  }
  return texts;
}

}  // namespace bert
