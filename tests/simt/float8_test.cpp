// FP8 copies of bf16 matrices, and products of them where their result is known exactly.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/simt/float8_values.h"
#include "tests/simt/simt_ops.h"
#include "tests/support/device_memory.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

constexpr DType kFormats[] = {DType::e4m3, DType::e5m2};

double largest_of(DType format) { return format == DType::e4m3 ? 448.0 : 57344.0; }

// The byte whose value is nearest to x, of two the even one; by looking at all of them.
std::uint8_t nearest(double x, DType format) {
  static std::map<DType, std::map<double, std::uint8_t>> positive;
  auto& values = positive[format];
  if (values.empty()) {
    for (int byte = 0; byte < 128; ++byte) {
      const float value = float8_value(static_cast<std::uint8_t>(byte), format);
      if (std::isfinite(value)) values[value] = static_cast<std::uint8_t>(byte);
    }
  }
  const double size = std::abs(x);
  const auto above = values.lower_bound(size);
  std::uint8_t byte = 0;
  if (above == values.end()) {
    byte = values.rbegin()->second;
  } else if (above == values.begin()) {
    byte = above->second;
  } else {
    const auto below = std::prev(above);
    const double up = above->first - size, down = size - below->first;
    byte = up < down || (up == down && above->second % 2 == 0) ? above->second : below->second;
  }
  return static_cast<std::uint8_t>(byte | (std::signbit(x) ? 0x80 : 0));
}

// The largest power of two up to 2^126 that takes `largest` no further than the format goes.
double scale_for(double largest, DType format) {
  if (largest == 0.0) return 1.0;
  double up = 0x1p126;
  while (largest * up > largest_of(format)) up /= 2.0;
  return up;
}

std::uint64_t checksum(const std::vector<std::uint8_t>& bytes) {  // FNV-1a
  std::uint64_t sum = 0xcbf29ce484222325u;
  for (const std::uint8_t byte : bytes) sum = (sum ^ byte) * 0x100000001b3u;
  return sum;
}

struct Case {
  std::int64_t rows, columns, count;
  bool plain, transposed;
};

class Float8 : public ::testing::Test {
 protected:
  simt::Float8Bytes copies_of(const DeviceTensor& x, std::int64_t count, DType format, bool plain,
                              bool transposed) {
    const DeviceStruct<std::int32_t> rows(*device_, static_cast<std::int32_t>(count));
    return simt::float8_bytes(x, rows.data(), format, plain, transposed);
  }
  std::unique_ptr<Device> device_ = make_cpu_device();
};

// Every bf16 within the format's range, at scale 1. The checksums are those of PyTorch's casts to
// float8_e4m3fn and float8_e5m2 of the same numbers in the same order.
TEST_F(Float8, RoundsEveryBfloat16AsPyTorchDoes) {
  const std::map<DType, std::uint64_t> golden{{DType::e4m3, 0x02b5889fa6ad3c93u},
                                              {DType::e5m2, 0x3e601f0d5cef2ed3u}};
  for (const DType format : kFormats) {
    std::vector<double> values;
    for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
      const float value = std::bit_cast<float>(bits << 16);
      if (std::abs(value) <= largest_of(format)) values.push_back(value);
    }
    const std::size_t count = values.size();
    values.resize((count + 15) / 16 * 16);
    const auto rows = static_cast<std::int64_t>(values.size() / 16);
    const DeviceTensor x(*device_, DType::bf16, {rows, 16}, values);
    simt::Float8Bytes copies = simt::float8_bytes(x, nullptr, format, true, false);
    EXPECT_EQ(copies.scale, 1.0f);
    copies.plain.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(copies.plain[i], nearest(values[i], format)) << values[i];
    }
    EXPECT_EQ(checksum(copies.plain), golden.at(format));
  }
}

// Tiles of 64 x 128: less than one, whole ones, and more than one with a rest both ways.
TEST_F(Float8, CopiesAreWhatPlainLoopsSay) {
  const std::vector<Case> cases = {
      {16, 16, 16, true, true},  {1, 16, 1, true, false},     {64, 128, 64, true, true},
      {80, 144, 80, true, true}, {80, 144, 37, true, true},   {80, 144, 0, true, true},
      {16, 272, 9, false, true}, {144, 16, 130, false, true}, {67, 48, 66, true, false},
  };
  for (const DType format : kFormats) {
    for (const Case& c : cases) {
      SCOPED_TRACE(std::to_string(c.rows) + " x " + std::to_string(c.columns) + ", " +
                   std::to_string(c.count) + " count");
      std::vector<double> values =
          random_values("float8", c.rows * c.columns, format == DType::e4m3 ? 0.02 : 3e-6);
      double largest = 0.0;
      for (std::int64_t i = 0; i < c.rows * c.columns; ++i) {
        double& value = values[static_cast<std::size_t>(i)];
        if (i < c.count * c.columns) {
          largest = std::max(largest, std::abs(value));
        } else {  // a row that does not count
          value = i % 2 == 0 ? 1e6 : std::numeric_limits<double>::quiet_NaN();
        }
      }
      const double up = scale_for(largest, format);
      const DeviceTensor x(*device_, DType::bf16, {c.rows, c.columns}, values);
      const simt::Float8Bytes copies = copies_of(x, c.count, format, c.plain, c.transposed);
      EXPECT_EQ(copies.scale, 1.0 / up);
      EXPECT_FALSE(copies.wrote_outside);
      for (std::int64_t r = 0; r < c.rows; ++r) {
        for (std::int64_t k = 0; k < c.columns; ++k) {
          const std::int64_t at = r * c.columns + k, across = k * c.rows + r;
          const std::uint8_t expected =
              r < c.count ? nearest(values[static_cast<std::size_t>(at)] * up, format) : 0;
          if (c.plain) {
            ASSERT_EQ(copies.plain[static_cast<std::size_t>(at)], expected) << r << ", " << k;
          }
          if (c.transposed) {
            ASSERT_EQ(copies.transposed[static_cast<std::size_t>(across)], expected)
                << r << ", " << k;
          }
        }
      }
    }
  }
}

// More elements than 512 blocks of threads take in one go; the largest is in the share of a late
// block, and in what the first does after the last.
TEST_F(Float8, FindsTheMaximumInAnyBlock) {
  const std::int64_t rows = 64, columns = 16416;
  std::vector<double> values(static_cast<std::size_t>(rows * columns), 0.5);
  for (const std::size_t at : {values.size() - 1, std::size_t{511 * 2048 - 3}}) {
    values[at] = 100.0;
    const DeviceTensor x(*device_, DType::bf16, {rows, columns}, values);
    EXPECT_EQ(copies_of(x, rows, DType::e4m3, true, false).scale, 0.25f) << at;
    values[at] = 0.5;
  }
}

// From the smallest bf16 to the largest, on both sides of 1.75 times a power of two.
TEST_F(Float8, ScaleIsTheLargestPowerOfTwoThatFits) {
  for (const DType format : kFormats) {
    for (std::uint32_t exponent = 0; exponent < 255; exponent += 2) {
      for (const std::uint32_t mantissa : {0x00u, 0x01u, 0x60u, 0x61u, 0x7fu}) {
        const float largest = std::bit_cast<float>((exponent << 7 | mantissa) << 16);
        std::vector<double> values(16 * 16, largest / 2.0);
        values[77] = -largest;
        const DeviceTensor x(*device_, DType::bf16, {16, 16}, values);
        const simt::Float8Bytes copies = copies_of(x, 16, format, true, false);
        const double up = scale_for(largest, format);
        ASSERT_EQ(copies.scale, 1.0 / up) << largest;
        ASSERT_EQ(copies.plain[77], nearest(-double{largest} * up, format)) << largest;
      }
    }
  }
}

TEST_F(Float8, WhatIsNotFiniteIsNotHidden) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
        -std::numeric_limits<double>::infinity()}) {
    std::vector<double> values = random_values("bad", 32 * 16);
    values[500] = bad;
    const DeviceTensor x(*device_, DType::bf16, {32, 16}, values);
    EXPECT_TRUE(std::isnan(copies_of(x, 32, DType::e5m2, true, true).scale));
    EXPECT_TRUE(std::isfinite(copies_of(x, 31, DType::e5m2, true, true).scale));
  }
}

TEST_F(Float8, RefusesOtherShapes) {
  const DeviceTensor odd(*device_, DType::bf16, {32, 24}), short_of(*device_, DType::bf16, {8, 16});
  EXPECT_THROW(copies_of(odd, 32, DType::e4m3, true, false), RuntimeError);
  EXPECT_THROW(copies_of(short_of, 8, DType::e4m3, true, true), RuntimeError);
  EXPECT_THROW(copies_of(short_of, 8, DType::bf16, true, false), RuntimeError);
}

TEST_F(Float8, NeedsComputeCapability89) {
  for (const auto& [major, minor] : {std::pair{8, 9}, {9, 0}, {10, 0}, {12, 0}}) {
    EXPECT_NO_THROW(simt::check_float8_support(major, minor, "a GPU"));
  }
  for (const auto& [major, minor] : {std::pair{8, 6}, {8, 0}, {7, 5}}) {
    EXPECT_THROW(simt::check_float8_support(major, minor, "a GPU"), InputError);
  }
}

// A linear layer with a bias, forward and backward, by one backend.
struct Results {
  std::vector<double> y, dx, dweight, dbias;
  bool operator==(const Results&) const = default;
};
struct Values {
  std::int64_t rows, count, inputs, outputs;
  std::vector<double> x, weight, bias, dy;
};

class Float8Linear : public Float8 {
 protected:
  Results run(const Values& v, bool fp8, bool allowed = true) {
    const std::unique_ptr<Ops> ops = simt::make_simt_ops(DType::bf16, *device_, true, fp8);
    const DeviceStruct<std::int32_t> rows(*device_, static_cast<std::int32_t>(v.count));
    const DeviceTensor x(*device_, DType::bf16, {v.rows, v.inputs}, v.x);
    const DeviceTensor weight(*device_, DType::bf16, {v.outputs, v.inputs}, v.weight);
    const DeviceTensor bias(*device_, DType::bf16, {v.outputs}, v.bias);
    const DeviceTensor dy(*device_, DType::bf16, {v.rows, v.outputs}, v.dy);
    const DeviceTensor y(*device_, DType::bf16, {v.rows, v.outputs});
    const DeviceTensor dx(*device_, DType::bf16, {v.rows, v.inputs});
    const DeviceTensor dweight(*device_, DType::f32, {v.outputs, v.inputs},
                               random_values("start", v.outputs * v.inputs));
    const DeviceTensor dbias(*device_, DType::f32, {v.outputs}, v.bias);
    const LinearWeight both{weight, weight};
    ops->linear_forward(
        {.x = x, .weight = both, .bias = bias, .rows = rows.data(), .y = y, .allow_fp8 = allowed});
    ops->linear_backward({.dy = dy,
                          .x = x,
                          .weight = both,
                          .rows = rows.data(),
                          .dx = dx,
                          .dweight = dweight,
                          .dbias = dbias,
                          .allow_fp8 = allowed});
    Results results{y.values(), dx.values(), dweight.values(), dbias.values()};
    results.y.resize(static_cast<std::size_t>(v.count * v.outputs));  // tails are unspecified
    return results;
  }

  static Values values(std::int64_t rows, std::int64_t count, std::int64_t inputs,
                       std::int64_t outputs, const std::function<double(double)>& change) {
    Values v{rows, count, inputs, outputs, {}, {}, {}, {}};
    v.x = random_values("x", rows * inputs);
    v.weight = random_values("weight", outputs * inputs);
    v.bias = random_values("bias", outputs);
    v.dy = random_values("dy", rows * outputs);
    for (auto* const tensor : {&v.x, &v.weight, &v.dy}) {
      for (double& value : *tensor) value = change(value);
    }
    for (std::int64_t i = count * outputs; i < rows * outputs; ++i) {
      v.dy[static_cast<std::size_t>(i)] = 0.0;
    }
    return v;
  }
};

// Within a few powers of two: numbers of as many significant bits as a format has are exact in it.
double round_to_bits(double value, int bits) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return exponent < -3 ? 0.0
                       : std::ldexp(std::nearbyint(std::ldexp(fraction, bits)), exponent - bits);
}

TEST_F(Float8Linear, IsTheSameBitsWhereNothingIsRounded) {
  for (const auto& [rows, count] : {std::pair{48, 41}, {64, 64}, {37, 30}}) {
    Values v = values(rows, count, 80, 48, [](double value) { return round_to_bits(value, 4); });
    for (double& value : v.dy) value = round_to_bits(value, 3);
    EXPECT_EQ(run(v, true), run(v, false)) << rows;
  }
}

// e5m2 goes from 2^-16 to 2^15, e4m3 from 2^-9 to 2^8: the gradient keeps what is 2^-24 of its
// largest, and what is smaller than its least is zero.
TEST_F(Float8Linear, GradientsHaveTheRangeOfE5m2) {
  Values v = values(48, 48, 48, 32, [](double value) { return round_to_bits(value, 2); });
  for (std::size_t i = 0; i < v.dy.size(); ++i) {
    v.dy[i] = i == 0 ? 1.0 : std::ldexp(i % 2 == 0 ? -1.0 : 1.0, i % 3 == 0 ? -24 : -20);
  }
  const Results wide = run(v, false), narrow = run(v, true);
  EXPECT_EQ(narrow.dx, wide.dx);
  EXPECT_EQ(narrow.dweight, wide.dweight);
  for (double& value : v.dy) value = value == 1.0 ? value : 0x1p-34;
  EXPECT_EQ(run(v, true).dx.back(), 0.0);
  EXPECT_NE(run(v, false).dx.back(), 0.0);
}

TEST_F(Float8Linear, RoundsWhatIsAllowedOnly) {
  const auto unchanged = [](double value) { return value; };
  const Values v = values(48, 41, 80, 48, unchanged);
  const Results fp8 = run(v, true), bf16 = run(v, false);
  EXPECT_NE(fp8.y, bf16.y);
  EXPECT_NE(fp8.dx, bf16.dx);
  EXPECT_NE(fp8.dweight, bf16.dweight);
  EXPECT_EQ(fp8.dbias, bf16.dbias);
  EXPECT_EQ(run(v, true, false), bf16);  // not allowed
  const Values odd_rows = values(41, 41, 80, 48, unchanged);
  const Results odd_fp8 = run(odd_rows, true), odd_bf16 = run(odd_rows, false);
  EXPECT_NE(odd_fp8.y, odd_bf16.y);
  EXPECT_NE(odd_fp8.dx, odd_bf16.dx);
  EXPECT_EQ(odd_fp8.dweight, odd_bf16.dweight);  // its sum is over 41 rows
  for (const auto& [inputs, outputs] : {std::pair{72, 48}, {80, 40}}) {
    const Values odd = values(48, 41, inputs, outputs, unchanged);
    EXPECT_EQ(run(odd, true), run(odd, false));
  }
}

TEST_F(Float8Linear, NanComesOutWhereItGoesIn) {
  Values v = values(32, 32, 48, 32, [](double value) { return value; });
  v.dy[100] = std::numeric_limits<double>::infinity();
  const Results results = run(v, true);
  EXPECT_TRUE(std::isfinite(results.y[0]));
  EXPECT_TRUE(std::isnan(results.dx[0]));
  EXPECT_TRUE(std::isnan(results.dweight[0]));
}

}  // namespace
}  // namespace bert::test
