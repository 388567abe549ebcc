// Small changes to an input, for runs without libFuzzer: a pure function of the seed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/philox.h"

namespace bert::fuzz {

class Mutator {
 public:
  // `inputs`: at least one.
  explicit Mutator(std::vector<std::string> inputs) : inputs_(std::move(inputs)) {}

  // One of the inputs, changed in one to four places; at most kMostBytes.
  std::string input(std::uint64_t seed) const;

  static constexpr std::size_t kMostBytes = 1 << 15;

 private:
  std::vector<std::string> inputs_;
};

}  // namespace bert::fuzz
