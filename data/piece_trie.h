// PieceTrie: the longest of a set of byte strings that a text begins with, in one pass over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace bert {

// A double-array trie (Aoe 1989): the child of node n for byte b lies at base[n] + b and says so in
// its check field. Immutable after construction.
class PieceTrie {
 public:
  PieceTrie() = default;
  // Distinct, non-empty strings, each with an id >= 0.
  explicit PieceTrie(std::vector<std::pair<std::string_view, std::int32_t>> pieces);

  struct Match {
    std::int32_t id = -1;      // -1: none
    std::uint32_t length = 0;  // bytes
  };
  Match longest(std::string_view text) const {
    Match match;
    std::int32_t node = 0;
    for (std::uint32_t i = 0; i < text.size(); ++i) {
      const std::int32_t child =
          nodes_[static_cast<std::size_t>(node)].base + static_cast<unsigned char>(text[i]);
      if (nodes_[static_cast<std::size_t>(child)].parent != node) break;
      node = child;
      const std::int32_t id = nodes_[static_cast<std::size_t>(node)].id;
      if (id >= 0) match = {id, i + 1};
    }
    return match;
  }

 private:
  struct Node {
    std::int32_t base = 0;     // where its children's slots begin
    std::int32_t parent = -1;  // -1: a free slot
    std::int32_t id = -1;      // of the piece that ends here
  };
  // Every base leaves 256 slots behind it, so no lookup needs a bounds check.
  std::vector<Node> nodes_ = std::vector<Node>(257);
};

}  // namespace bert
