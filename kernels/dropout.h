// The dropout contract, shared by every backend: which bits decide which element.
//
// Bits are Philox4x32-7 with key = seed and counter = {group, sequence, step, site}: 128 bits, 16
// for each of the eight elements of a group. `sequence` is the sequence's global index in the
// optimizer step, so packing, ranks and micro-batches do not change a single bit. An element is
// kept when its 16 bits are >= dropout_threshold(p), and is then multiplied by dropout_scale(p).
// The bits are recomputed in backward, never stored.
#pragma once

#include <cmath>
#include <cstdint>

#include "runtime/philox.h"

namespace bert {

// What all dropout of one optimizer step shares; lies in device memory.
struct DropoutKey {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
};

// One place in the network where dropout is applied.
struct Dropout {
  float probability = 0.0f;         // 0: off, `key` is not read
  std::uint32_t site = 0;           // see dropout_site
  const DropoutKey* key = nullptr;  // device memory
};

enum class DropoutSite : std::uint32_t { embeddings, attention, attention_output, feed_forward };

// The site number of layer `layer` (0-based; 0 for the embeddings).
inline constexpr std::uint32_t dropout_site(DropoutSite site, std::uint32_t layer = 0) {
  return layer * 4 + static_cast<std::uint32_t>(site);
}

// Of what a head reads (DropoutRows): no layer's number leads there.
inline constexpr std::uint32_t kHeadDropoutSite = 0xFFFFFFFFu;

// Elements with fewer 16-bit random values than this are dropped: the probability in 1/32768, so an
// even number. (The lowest bit then decides nothing, and a GPU can compare two values at once.)
inline std::uint32_t dropout_threshold(float probability) {
  return static_cast<std::uint32_t>(std::lround(static_cast<double>(probability) * 32768.0)) * 2;
}

// 1 / (1 - p) for the p that is really applied (threshold / 65536), so that the mean is kept.
inline double dropout_scale(float probability) {
  return 65536.0 / (65536.0 - dropout_threshold(probability));
}

template <class Product = PhiloxProduct>
inline constexpr PhiloxCounter dropout_bits(const DropoutKey& key, std::uint32_t site,
                                            std::uint32_t sequence, std::uint32_t group) {
  return philox4x32_7<Product>({group, sequence, key.step, site}, philox_key(key.seed));
}

// The 16 bits of element `element` (0..7) of a group: low half of a word first.
inline constexpr std::uint32_t dropout_value(const PhiloxCounter& bits, int element) {
  return (bits[static_cast<std::size_t>(element >> 1)] >> (16 * (element & 1))) & 0xFFFFu;
}

// Hidden states: element (position, channel) of a [length, C] sequence. Groups do not cross rows.
struct DropoutPlace {
  std::uint32_t group;
  int element;
};
inline constexpr DropoutPlace hidden_dropout_place(std::int64_t position, std::int64_t channel,
                                                   std::int64_t channels) {
  return {static_cast<std::uint32_t>(position * ((channels + 7) / 8) + channel / 8),
          static_cast<int>(channel % 8)};
}

// Attention probabilities: element (head, query, key) of a sequence of `length` tokens. A group is
// the eight elements that one thread of a warp holds of a 16 x 16 tile in the accumulator layout of
// mma.m16n8k16: rows r and r + 8, columns 2c, 2c + 1, 2c + 8, 2c + 9 with lane = 4 r + c.
inline constexpr DropoutPlace attention_dropout_place(std::int64_t head, std::int64_t query,
                                                      std::int64_t key, std::int64_t length) {
  const std::int64_t tiles = (length + 15) / 16;
  const std::int64_t tile = (head * tiles + query / 16) * tiles + key / 16;
  const std::int64_t lane = (query % 8) * 4 + (key % 8) / 2;
  return {static_cast<std::uint32_t>(tile * 32 + lane),
          static_cast<int>((key % 16) / 8 * 4 + (query % 16) / 8 * 2 + (key & 1))};
}

// How many groups a sequence of `length` tokens has, of which each wants a number of its own.
inline constexpr std::int64_t attention_dropout_groups(std::int64_t heads, std::int64_t length) {
  const std::int64_t tiles = (length + 15) / 16;
  return heads * tiles * tiles * 32;
}

}  // namespace bert
