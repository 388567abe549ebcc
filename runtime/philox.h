// Philox4x32-7 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a counter-based
// generator. Output is a pure function of (key, counter), so random bits are recomputed instead of
// stored, and do not depend on threads, packing, ranks or devices.
#pragma once

#include <array>
#include <cstdint>

namespace bert {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

inline constexpr int kPhiloxRounds = 7;  // the fewest that pass BigCrush
inline constexpr std::uint32_t kPhiloxFactor0 = 0xD2511F53u, kPhiloxFactor1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kPhiloxKeyStep0 = 0x9E3779B9u, kPhiloxKeyStep1 = 0xBB67AE85u;

// The whole product of two 32-bit numbers.
struct PhiloxProduct {
  constexpr std::uint64_t operator()(std::uint32_t a, std::uint32_t b) const {
    return std::uint64_t{a} * b;
  }
};

// 128 random bits for (counter, key). `Product` is for code that knows an instruction for it.
template <class Product = PhiloxProduct>
inline constexpr PhiloxCounter philox4x32_7(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = Product{}(counter[0], kPhiloxFactor0);
    const std::uint64_t product1 = Product{}(counter[2], kPhiloxFactor1);
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kPhiloxKeyStep0;
    key[1] += kPhiloxKeyStep1;
  }
  return counter;
}

inline constexpr PhiloxKey philox_key(std::uint64_t seed) {
  return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
}

// A stream of random numbers from one key: (seed, stream, index) names the stream, successive calls
// walk its counter. Used on the host wherever a loop draws (masks, order, initial weights).
class PhiloxStream {
 public:
  PhiloxStream(std::uint64_t seed, std::uint32_t stream, std::uint64_t index)
      : key_(philox_key(seed)),
        counter_{0, stream, static_cast<std::uint32_t>(index),
                 static_cast<std::uint32_t>(index >> 32)} {}

  std::uint32_t next_u32() {
    if (used_ == 4) {
      block_ = philox4x32_7(counter_, key_);
      ++counter_[0];
      used_ = 0;
    }
    return block_[used_++];
  }
  // Uniform in [0, bound), without bias (Lemire 2019). bound > 0.
  std::uint32_t next_below(std::uint32_t bound) {
    std::uint64_t product = std::uint64_t{next_u32()} * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
      const std::uint32_t threshold = (0u - bound) % bound;
      while (static_cast<std::uint32_t>(product) < threshold) {
        product = std::uint64_t{next_u32()} * bound;
      }
    }
    return static_cast<std::uint32_t>(product >> 32);
  }
  // Uniform in [0, 1), 53 bits.
  double next_double() {
    const std::uint64_t high = next_u32() >> 5, low = next_u32() >> 6;
    return static_cast<double>((high << 26) | low) * 0x1.0p-53;
  }

 private:
  PhiloxKey key_;
  PhiloxCounter counter_;
  PhiloxCounter block_{};
  int used_ = 4;
};

}  // namespace bert
