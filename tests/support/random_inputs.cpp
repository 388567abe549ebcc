#include "tests/support/random_inputs.h"

#include <cmath>

#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert::test {
namespace {

PhiloxStream stream_of(std::string_view name) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return {20180810, 0, hash};
}

double round_to_bf16(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

}  // namespace

std::vector<double> random_values(std::string_view name, std::int64_t count, double scale,
                                  double mean) {
  PhiloxStream stream = stream_of(name);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += stream.next_double();
    value = round_to_bf16(mean + scale * sum);
  }
  return values;
}

std::vector<double> random_integers(std::string_view name, std::int64_t count, std::int64_t bound) {
  PhiloxStream stream = stream_of(name);
  std::vector<double> values(static_cast<std::size_t>(count));
  for (double& value : values) value = stream.next_below(static_cast<std::uint32_t>(bound));
  return values;
}

std::vector<double> random_distinct(std::string_view name, std::int64_t count, std::int64_t bound) {
  BERT_CHECK(count <= bound, "{} distinct integers below {}", count, bound);
  PhiloxStream stream = stream_of(name);
  std::vector<double> values;
  for (std::int64_t i = 0; i < bound; ++i) {  // selection sampling (Knuth, algorithm S)
    const std::int64_t wanted = count - static_cast<std::int64_t>(values.size());
    if (static_cast<std::int64_t>(stream.next_below(static_cast<std::uint32_t>(bound - i))) <
        wanted) {
      values.push_back(static_cast<double>(i));
    }
  }
  return values;
}

}  // namespace bert::test
