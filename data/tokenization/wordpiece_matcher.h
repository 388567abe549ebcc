// WordpieceMatcher: cuts a word into pieces, longest match first, in time linear in the word: "Fast
// WordPiece" (LinMaxMatch; Song et al. 2021, arXiv:2012.15524). Where a match cannot go on, the
// node's failure link says where in the trie the rest of what was read stands once the pieces that
// longest-match-first would take ("failure pops") are taken, so that no byte is read twice. Going
// back instead costs up to the word's length times the longest piece's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace bert {

// A double-array trie (Aoe 1989) with two roots: pieces that begin a word, and pieces that go on.
// The child of a node for byte b is at slot base + b, and no two nodes share a base, so that a slot
// knows its parent by the byte alone: four bytes a step. Immutable after construction.
class WordpieceMatcher {
 public:
  using Pieces = std::vector<std::pair<std::string_view, std::int32_t>>;
  using Node = std::uint32_t;

  WordpieceMatcher() : WordpieceMatcher({}, {}) {}
  // Distinct, non-empty strings (`continuing` without "##"), each with an id >= 0. InputError where
  // they are too many (over 8 million bytes of different beginnings).
  WordpieceMatcher(Pieces initial, Pieces continuing);

  // Calls emit(id, begin, end) for each piece of `word` in order, [begin, end) in bytes of it.
  // False where the word cannot be cut; what was emitted then means nothing. An empty word has no
  // pieces.
  template <typename Emit>
  bool match(std::string_view word, Emit&& emit) const {
    Node node = kInitialRoot;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < word.size();) {
      const Node child = step(node, static_cast<unsigned char>(word[i]));
      if (child != kNone) {
        node = child;
        ++i;
      } else if (!fail(node, begin, i, emit)) {
        return false;
      }
    }
    return finish(node, begin, word.size(), emit);
  }

  // The parts of match(), for a caller that reads the word as it goes: from kInitialRoot, step()
  // for each byte; where that is kNone, fail() and the same byte again; in the end finish().
  static constexpr Node kInitialRoot = 0, kContinuingRoot = 1, kNone = ~Node{0};

  Node step(Node node, unsigned byte) const {
    const Node slot = (units_[node] >> kLabelBits) + byte;
    return (units_[slot] & kLabelMask) == byte ? slot : kNone;
  }
  // Takes the failure pops of `node`, whose path is the bytes [begin, end) of the word, and goes
  // along its failure link. False where there is none.
  template <typename Emit>
  bool fail(Node& node, std::size_t& begin, std::size_t end, Emit&& emit) const {
    const Failure& failure = failures_[node];
    if (failure.id >= 0) {
      emit(failure.id, begin, end);
      begin = end;
      node = kContinuingRoot;
      return true;
    }
    if (failure.link == kNone) return false;
    for (std::uint32_t i = failure.pops_begin; i < failure.pops_end; ++i) {
      emit(pops_[i].id, begin, begin + pops_[i].length);
      begin += pops_[i].length;
    }
    node = failure.link;
    return true;
  }
  template <typename Emit>
  bool finish(Node node, std::size_t begin, std::size_t end, Emit&& emit) const {
    while (begin < end) {
      if (!fail(node, begin, end, emit)) return false;
    }
    return true;
  }

 private:
  static constexpr unsigned kLabelBits = 9;
  static constexpr std::uint32_t kLabelMask = (1u << kLabelBits) - 1;
  static constexpr std::uint32_t kFree = 256;  // the label of a slot without a node

  struct Failure {
    std::int32_t id = -1;  // of the piece that ends here: the one pop; the link is kContinuingRoot
    Node link = kNone;     // else
    std::uint32_t pops_begin = 0, pops_end = 0;  // in pops_
  };
  struct Pop {
    std::int32_t id;
    std::uint32_t length;  // bytes
  };
  struct Branch;  // a node on its way into the array
  std::vector<Branch> build_trie(const Pieces& initial, const Pieces& continuing);
  void link_failures(const std::vector<Branch>& branches);

  std::vector<std::uint32_t> units_;  // base << kLabelBits | label; 256 slots behind every base
  std::vector<Failure> failures_;     // of each slot
  std::vector<Pop> pops_;
};

}  // namespace bert
