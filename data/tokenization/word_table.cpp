#include "data/tokenization/word_table.h"

#include <algorithm>
#include <limits>

#include <xxhash.h>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kFirstSlots = 1024;

}  // namespace

std::uint32_t WordTable::hash(std::string_view word) {
  return static_cast<std::uint32_t>(XXH3_64bits(word.data(), word.size()));
}

void WordTable::add(std::string_view word, std::uint64_t count, std::uint32_t hash_of_word) {
  if (count == 0) return;
  if (4 * (size_ + 1) > 3 * slots_.size()) grow();
  const std::size_t mask = slots_.size() - 1;
  std::size_t i = hash_of_word & mask;
  for (; slots_[i].count != 0; i = (i + 1) & mask) {
    if (slots_[i].hash == hash_of_word && word_of(slots_[i]) == word) {
      slots_[i].count += count;
      return;
    }
  }
  BERT_CHECK(text_.size() + word.size() <= std::numeric_limits<std::uint32_t>::max());
  slots_[i] = {count, static_cast<std::uint32_t>(text_.size()),
               static_cast<std::uint32_t>(word.size()), hash_of_word};
  text_.insert(text_.end(), word.begin(), word.end());
  ++size_;
}

void WordTable::grow() {
  std::vector<Slot> larger(std::max(kFirstSlots, slots_.size() * 2));
  const std::size_t mask = larger.size() - 1;
  for (const Slot& slot : slots_) {
    if (slot.count == 0) continue;
    std::size_t i = slot.hash & mask;
    while (larger[i].count != 0) i = (i + 1) & mask;
    larger[i] = slot;
  }
  slots_ = std::move(larger);
}

void WordTable::clear() {
  std::fill(slots_.begin(), slots_.end(), Slot{});
  text_.clear();
  size_ = 0;
}

void WordTable::release() { *this = WordTable(); }

}  // namespace bert
