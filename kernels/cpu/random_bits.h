// The dropout bits of kernels/dropout.h, many groups at a time: eight Philox counters per round of
// 64-bit lanes.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd.h"
#include "kernels/dropout.h"
#include "runtime/philox.h"

namespace bert::cpu {

typedef std::uint64_t U64x8 __attribute__((vector_size(64)));
typedef std::uint32_t U32x8 __attribute__((vector_size(32)));

// The low halves of the lanes, multiplied: 32 x 32 -> 64 bits. What is above them is ignored.
inline U64x8 multiply_low_halves(U64x8 a, std::uint32_t b) {
#if defined(__AVX512F__)
  return bit_cast<U64x8>(
      _mm512_mul_epu32(bit_cast<__m512i>(a), _mm512_set1_epi64(static_cast<long long>(b))));
#elif defined(__AVX2__)
  __m256i half[2];
  std::memcpy(half, &a, sizeof a);
  const __m256i factor = _mm256_set1_epi64x(static_cast<long long>(b));
  half[0] = _mm256_mul_epu32(half[0], factor);
  half[1] = _mm256_mul_epu32(half[1], factor);
  std::memcpy(&a, half, sizeof a);
  return a;
#else
  return (a & 0xFFFFFFFFull) * b;
#endif
}

// Philox of the counters {first_group + 0..7, sequence, step, site}: word w of counter i is in the
// low half of lane i of words[w]; the high halves are arbitrary.
inline void dropout_bits8(const DropoutKey& key, std::uint32_t site, std::uint32_t sequence,
                          std::uint32_t first_group, U64x8 (&words)[4]) {
  const U64x8 lanes = {0, 1, 2, 3, 4, 5, 6, 7};
  U64x8 c0 = lanes + first_group;
  U64x8 c1 = U64x8{} + sequence;
  U64x8 c2 = U64x8{} + key.step;
  U64x8 c3 = U64x8{} + site;
  PhiloxKey k = philox_key(key.seed);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const U64x8 product0 = multiply_low_halves(c0, kPhiloxFactor0);
    const U64x8 product1 = multiply_low_halves(c2, kPhiloxFactor1);
    c0 = (product1 >> 32) ^ c1 ^ (U64x8{} + std::uint64_t{k[0]});
    c1 = product1;
    c2 = (product0 >> 32) ^ c3 ^ (U64x8{} + std::uint64_t{k[1]});
    c3 = product0;
    k[0] += kPhiloxKeyStep0;
    k[1] += kPhiloxKeyStep1;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

// How many 16-bit values `hidden_dropout_row` writes for a row of `channels`.
inline constexpr std::int64_t dropout_row_capacity(std::int64_t channels) {
  return round_up(channels, 64);
}

// values[c] = the 16 bits of channel c of one row of a [length, channels] sequence.
inline void hidden_dropout_row(const DropoutKey& key, std::uint32_t site, std::uint32_t sequence,
                               std::int64_t position, std::int64_t channels,
                               std::uint16_t* values) {
  const std::int64_t groups = (channels + 7) / 8;
  const auto first = static_cast<std::uint32_t>(position * groups);
  for (std::int64_t group = 0; group < groups; group += 8) {
    U64x8 words[4];
    dropout_bits8(key, site, sequence, first + static_cast<std::uint32_t>(group), words);
    const U64x8 low = (words[0] & 0xFFFFFFFFull) | (words[1] << 32);
    const U64x8 high = (words[2] & 0xFFFFFFFFull) | (words[3] << 32);
    const U64x8 first_half = __builtin_shufflevector(low, high, 0, 8, 1, 9, 2, 10, 3, 11);
    const U64x8 second_half = __builtin_shufflevector(low, high, 4, 12, 5, 13, 6, 14, 7, 15);
    std::memcpy(values + group * 8, &first_half, 64);
    std::memcpy(values + group * 8 + 32, &second_half, 64);
  }
}

// The 16-bit values of one 16 x 16 tile of attention probabilities: row r of the tile goes to
// values + r * stride, in key order. `first_group` is the group of the tile's lane 0.
inline void attention_dropout_tile(const DropoutKey& key, std::uint32_t site,
                                   std::uint32_t sequence, std::uint32_t first_group,
                                   std::uint16_t* values, std::int64_t stride) {
  alignas(64) std::uint32_t words[4][32];
  for (int part = 0; part < 4; ++part) {
    U64x8 wide[4];
    dropout_bits8(key, site, sequence, first_group + static_cast<std::uint32_t>(part) * 8, wide);
    for (int w = 0; w < 4; ++w) {
      const U32x8 narrow = __builtin_convertvector(wide[w], U32x8);
      std::memcpy(&words[w][part * 8], &narrow, sizeof narrow);
    }
  }
  // Lanes 4r .. 4r + 3 hold row r: word 0 keys 0..7, word 2 keys 8..15; words 1 and 3 row r + 8.
  for (int r = 0; r < 8; ++r) {
    std::memcpy(values + r * stride, &words[0][4 * r], 16);
    std::memcpy(values + r * stride + 8, &words[2][4 * r], 16);
    std::memcpy(values + (r + 8) * stride, &words[1][4 * r], 16);
    std::memcpy(values + (r + 8) * stride + 8, &words[3][4 * r], 16);
  }
}

// What a kept element is multiplied by, and zero for a dropped one.
class DropoutScale {
 public:
  explicit DropoutScale(const Dropout& dropout)
      : threshold_(splat(dropout_threshold(dropout.probability))),
        scale_(splat(static_cast<float>(dropout_scale(dropout.probability)))) {}
  // For kLanes consecutive values.
  F32 operator()(const std::uint16_t* values) const {
    U16 bits;
    std::memcpy(&bits, values, sizeof bits);
    return widen(bits) >= threshold_ ? scale_ : F32{};
  }

 private:
  U32 threshold_;
  F32 scale_;
};

}  // namespace bert::cpu
