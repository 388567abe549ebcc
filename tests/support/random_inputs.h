// Deterministic random inputs: the same name gives the same numbers on every machine.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace bert::test {

// Values of about `scale`, bell-shaped around `mean` (the sum of twelve uniform numbers, so no
// library function decides their bits), rounded to the eight significant bits of bf16: every dtype
// reads the same numbers, and a comparison measures the op instead of the rounding of its input.
std::vector<double> random_values(std::string_view name, std::int64_t count, double scale = 1.0,
                                  double mean = 0.0);

// Integers in [0, bound).
std::vector<double> random_integers(std::string_view name, std::int64_t count, std::int64_t bound);

// `count` distinct integers in [0, bound), ascending.
std::vector<double> random_distinct(std::string_view name, std::int64_t count, std::int64_t bound);

}  // namespace bert::test
