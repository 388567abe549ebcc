// WordTable: counts by word, in little memory: an entry is 24 bytes and the word itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace bert {

// An open-addressing hash table with linear probing. Holds up to 4 GiB of different words.
class WordTable {
 public:
  static std::uint32_t hash(std::string_view word);

  void add(std::string_view word, std::uint64_t count) { add(word, count, hash(word)); }
  void add(std::string_view word, std::uint64_t count, std::uint32_t hash_of_word);
  std::size_t size() const { return size_; }
  std::size_t memory_bytes() const { return slots_.capacity() * sizeof(Slot) + text_.capacity(); }
  void clear();    // keeps its memory
  void release();  // gives it back

  // visit(word, count, hash) for each word, in no order; the words stay valid until the next add().
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.count != 0) visit(word_of(slot), slot.count, slot.hash);
    }
  }

 private:
  struct Slot {
    std::uint64_t count = 0;  // 0: free
    std::uint32_t begin = 0, size = 0, hash = 0;
  };
  std::string_view word_of(const Slot& slot) const {
    return {text_.data() + slot.begin, slot.size};
  }
  void grow();

  std::vector<Slot> slots_;  // a power of two of them, or none
  std::vector<char> text_;
  std::size_t size_ = 0;
};

}  // namespace bert
