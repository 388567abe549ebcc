#include "data/tokenization/wordpiece_matcher.h"

#include <algorithm>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kPatience = 300;  // slots tried for one node before some are given up
constexpr std::size_t kMaxSlots = std::size_t{1} << 23;

}  // namespace

// The pieces [first, last) of one of the two lists share their first `depth` bytes and go through
// the node at `slot`, which is `parent`'s child.
struct WordpieceMatcher::Branch {
  const Pieces* pieces;
  std::size_t first, last, depth;
  Node slot, parent;
  unsigned char byte;
};

WordpieceMatcher::WordpieceMatcher(Pieces initial, Pieces continuing) {
  for (Pieces* pieces : {&initial, &continuing}) {
    std::sort(pieces->begin(), pieces->end());
    for (std::size_t i = 0; i < pieces->size(); ++i) {
      BERT_CHECK(!(*pieces)[i].first.empty() && (*pieces)[i].second >= 0);
      BERT_CHECK(i == 0 || (*pieces)[i].first != (*pieces)[i - 1].first, "a piece given twice");
    }
  }
  link_failures(build_trie(initial, continuing));
}

// Places the nodes in the order of their depth, which is also the order that it returns.
std::vector<WordpieceMatcher::Branch> WordpieceMatcher::build_trie(const Pieces& initial,
                                                                   const Pieces& continuing) {
  std::vector<Branch> queue{{&initial, 0, initial.size(), 0, kInitialRoot, kNone, 0},
                            {&continuing, 0, continuing.size(), 0, kContinuingRoot, kNone, 0}};
  units_.assign(1024, kFree);
  failures_.assign(1024, Failure{});
  // The roots' labels are no bytes, and their slots not free.
  std::vector<bool> taken(1024, false), base_used(1024, false);
  taken[kInitialRoot] = taken[kContinuingRoot] = true;
  std::vector<Branch> children;
  std::size_t search_from = 2, last_base = 0;  // before search_from hardly a slot is free
  for (std::size_t next = 0; next < queue.size(); ++next) {
    const Branch branch = queue[next];
    const Pieces& pieces = *branch.pieces;
    std::size_t i = branch.first;
    if (i < branch.last && pieces[i].first.size() == branch.depth) {
      failures_[branch.slot].id = pieces[i].second;
      ++i;
    }
    const auto byte_at = [&](std::size_t piece) {
      return static_cast<unsigned char>(pieces[piece].first[branch.depth]);
    };
    children.clear();
    while (i < branch.last) {
      std::size_t end = i + 1;
      while (end < branch.last && byte_at(end) == byte_at(i)) ++end;
      children.push_back({branch.pieces, i, end, branch.depth + 1, kNone, branch.slot, byte_at(i)});
      i = end;
    }
    // A leaf's base is 0: a base of its own is only for parents, and 0 for none of them.
    if (children.empty()) continue;

    // First fit: the lowest unused base > 0 that puts every child in a free slot.
    const unsigned char lowest = children.front().byte;
    std::size_t slot = std::max<std::size_t>(search_from, lowest + 1u);
    std::size_t tried = 0;
    for (;; ++slot, ++tried) {
      if (units_.size() < slot + 512) {
        const std::size_t size = units_.size() * 2;
        units_.resize(size, kFree);
        failures_.resize(size);
        taken.resize(size);
        base_used.resize(size);
      }
      const std::size_t base = slot - lowest;
      if (taken[slot] || base_used[base]) continue;
      if (std::none_of(children.begin(), children.end(),
                       [&](const Branch& child) { return taken[base + child.byte]; })) {
        break;
      }
    }
    if (slot + 512 > kMaxSlots) {
      throw_input_error("the vocabulary's {} pieces are too long or too many to be searched",
                        initial.size());
    }
    // Where a long search was in vain the slots are nearly full: leave them behind.
    if (tried > kPatience) search_from = std::max(search_from, slot - kPatience / 2);
    const std::size_t base = slot - lowest;
    base_used[base] = true;
    last_base = std::max(last_base, base);
    units_[branch.slot] =
        static_cast<std::uint32_t>(base << kLabelBits) | (units_[branch.slot] & kLabelMask);
    for (Branch& child : children) {
      child.slot = static_cast<Node>(base + child.byte);
      taken[child.slot] = true;
      units_[child.slot] = child.byte;
      queue.push_back(child);
    }
  }
  units_.resize(last_base + 256, kFree);
  failures_.resize(units_.size());
  units_.shrink_to_fit();
  failures_.shrink_to_fit();
  return queue;
}

// Algorithm 1 of the paper. A link leads to a node of lesser depth, which came before.
void WordpieceMatcher::link_failures(const std::vector<Branch>& branches) {
  std::vector<Pop> pops;
  const auto append_pops = [&](Node node, std::size_t depth) {
    const Failure& failure = failures_[node];
    if (failure.id >= 0) {
      pops.push_back({failure.id, static_cast<std::uint32_t>(depth)});
    } else {
      pops.insert(pops.end(), pops_.begin() + failure.pops_begin, pops_.begin() + failure.pops_end);
    }
  };
  const auto link_of = [&](Node node) {
    return failures_[node].id >= 0 ? kContinuingRoot : failures_[node].link;
  };
  std::vector<std::uint32_t> depth_of(units_.size());
  for (const Branch& branch : branches) {
    depth_of[branch.slot] = static_cast<std::uint32_t>(branch.depth);
    if (branch.depth == 0 || failures_[branch.slot].id >= 0) continue;
    pops.clear();
    append_pops(branch.parent, branch.depth - 1);
    Node from = link_of(branch.parent);
    while (from != kNone) {
      if (const Node child = step(from, branch.byte); child != kNone) {
        Failure& failure = failures_[branch.slot];
        failure.link = child;
        failure.pops_begin = static_cast<std::uint32_t>(pops_.size());
        pops_.insert(pops_.end(), pops.begin(), pops.end());
        failure.pops_end = static_cast<std::uint32_t>(pops_.size());
        break;
      }
      append_pops(from, depth_of[from]);
      from = link_of(from);
    }
  }
}

}  // namespace bert
