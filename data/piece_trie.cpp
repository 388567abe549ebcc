#include "data/piece_trie.h"

#include <algorithm>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kPatience = 300;  // slots tried for one node before some are given up

}  // namespace

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, std::int32_t>> pieces) {
  std::sort(pieces.begin(), pieces.end());
  // The pieces [first, last) share their first `depth` bytes and go through `node`.
  struct Range {
    std::size_t first, last, depth;
    std::int32_t node;
  };
  std::vector<Range> queue{{0, pieces.size(), 0, 0}};
  std::vector<Range> children;
  std::size_t search_from = 1;  // the first slot that may still be free
  nodes_.assign(512, Node{});
  nodes_[0].parent = -2;  // the root is not free, and nobody's child
  for (std::size_t next = 0; next < queue.size(); ++next) {
    const Range range = queue[next];
    std::size_t i = range.first;
    if (i < range.last && pieces[i].first.size() == range.depth) {
      BERT_CHECK(range.depth > 0, "an empty piece");
      nodes_[static_cast<std::size_t>(range.node)].id = pieces[i].second;
      ++i;
      BERT_CHECK(i == range.last || pieces[i].first.size() > range.depth, "a piece given twice");
    }
    const auto byte_at = [&](std::size_t piece) {
      return static_cast<unsigned char>(pieces[piece].first[range.depth]);
    };
    children.clear();
    while (i < range.last) {
      std::size_t end = i + 1;
      while (end < range.last && byte_at(end) == byte_at(i)) ++end;
      children.push_back({i, end, range.depth + 1, 0});
      i = end;
    }
    if (children.empty()) continue;

    // First fit: the lowest base >= 0 that puts every child in a free slot.
    const unsigned char lowest = byte_at(children.front().first);
    std::size_t slot = std::max<std::size_t>(search_from, lowest);
    std::size_t tried = 0;
    for (;; ++slot, ++tried) {
      if (nodes_.size() < slot + 512) nodes_.resize(nodes_.size() * 2 + 512);
      if (nodes_[slot].parent != -1) continue;
      const std::size_t base = slot - lowest;
      if (std::all_of(children.begin(), children.end(), [&](const Range& child) {
            return nodes_[base + byte_at(child.first)].parent == -1;
          })) {
        break;
      }
    }
    // Where a long search was in vain the slots are nearly full: leave them behind.
    if (tried > kPatience) search_from = std::max(search_from, slot - kPatience / 2);
    const auto base = static_cast<std::int32_t>(slot - lowest);
    nodes_[static_cast<std::size_t>(range.node)].base = base;
    for (Range& child : children) {
      child.node = base + byte_at(child.first);
      nodes_[static_cast<std::size_t>(child.node)].parent = range.node;
      queue.push_back(child);
    }
  }
  std::int32_t last = 0;
  for (const Node& node : nodes_) last = std::max(last, node.base);
  nodes_.resize(static_cast<std::size_t>(last) + 257);
  nodes_.shrink_to_fit();
}

}  // namespace bert
