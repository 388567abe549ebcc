// KeyedPermutation: a shuffle of [0, n) that is never stored. position -> element in O(1), so any
// place of any epoch's order can be asked for directly, on any rank, after any restart.
//
// A balanced Feistel network over the smallest even number of bits that holds n, with cycle walking
// (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"): values outside [0, n) are
// permuted again until they fall inside; on average fewer than four times.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "data/shards/random_streams.h"
#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert {

class KeyedPermutation {
 public:
  KeyedPermutation(std::uint64_t size, std::uint64_t seed, std::uint64_t epoch) : size_(size) {
    BERT_CHECK(size > 0 && size <= std::uint64_t{1} << 62);
    half_bits_ = (std::bit_width(size - 1) + 1) / 2;
    if (half_bits_ == 0) half_bits_ = 1;
    mask_ = (std::uint64_t{1} << half_bits_) - 1;
    PhiloxStream stream(seed, kOrderStream, epoch);
    for (auto& key : round_keys_) {
      key = std::uint64_t{stream.next_u32()} << 32;
      key |= stream.next_u32();
    }
  }

  std::uint64_t size() const { return size_; }

  // The element at `position`; a bijection of [0, size).
  std::uint64_t operator()(std::uint64_t position) const {
    std::uint64_t value = position;
    do {
      value = encrypt(value);
    } while (value >= size_);
    return value;
  }

 private:
  std::uint64_t encrypt(std::uint64_t value) const {
    std::uint64_t left = value >> half_bits_, right = value & mask_;
    for (const std::uint64_t key : round_keys_) {
      const std::uint64_t next = left ^ (mix(right ^ key) & mask_);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }
  // The finaliser of SplitMix64 (Steele et al. 2014): every input bit reaches every output bit.
  static std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }

  std::uint64_t size_;
  int half_bits_;
  std::uint64_t mask_;
  std::array<std::uint64_t, 12> round_keys_;  // small domains have weak rounds: many of them
};

}  // namespace bert
