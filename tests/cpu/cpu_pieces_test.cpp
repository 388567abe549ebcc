// The SIMD forms of the dropout bits, bf16, products, transposes and work sharing, each against the
// plain definition.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/product_kernels.h"
#include "kernels/cpu/random_bits.h"
#include "kernels/cpu/small_product.h"
#include "runtime/philox.h"

namespace bert::cpu {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_floats(std::int64_t n, std::uint64_t seed) {
  PhiloxStream stream(seed, 0, 0);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& v : values) v = static_cast<float>(stream.next_double()) - 0.5f;
  return values;
}

TEST(RandomBits, HiddenRowFollowsTheDropoutContract) {
  const DropoutKey key{0x123456789ABCDEFull, 77};
  for (const std::int64_t channels : {1, 7, 8, 63, 64, 65, 128, 768}) {
    std::vector<std::uint16_t> values(static_cast<std::size_t>(dropout_row_capacity(channels)));
    for (const std::int64_t position : {0, 1, 509}) {
      hidden_dropout_row(key, 9, 1234567u, position, channels, values.data());
      for (std::int64_t c = 0; c < channels; ++c) {
        const DropoutPlace place = hidden_dropout_place(position, c, channels);
        const auto bits = dropout_bits(key, 9, 1234567u, place.group);
        ASSERT_EQ(values[static_cast<std::size_t>(c)], dropout_value(bits, place.element))
            << "channel " << c << " of " << channels << ", position " << position;
      }
    }
  }
}

TEST(RandomBits, AttentionTileFollowsTheDropoutContract) {
  const DropoutKey key{42, 3};
  const std::int64_t length = 40, head = 5, first_query = 16, first_key = 32, stride = 20;
  std::vector<std::uint16_t> values(16 * stride);
  const std::uint32_t group = attention_dropout_place(head, first_query, first_key, length).group;
  attention_dropout_tile(key, 6, 8, group, values.data(), stride);
  for (std::int64_t i = 0; i < 16; ++i) {
    for (std::int64_t j = 0; j < 16; ++j) {
      const DropoutPlace place =
          attention_dropout_place(head, first_query + i, first_key + j, length);
      const auto bits = dropout_bits(key, 6, 8, place.group);
      ASSERT_EQ(values[static_cast<std::size_t>(i * stride + j)],
                dropout_value(bits, place.element))
          << i << ", " << j;
    }
  }
}

TEST(SmallProduct, EqualsThePlainSum) {
  for (const std::int64_t m : {1, 3, 8, 13, 33}) {
    for (const std::int64_t n : {kLanes, 2 * kLanes, 5 * kLanes}) {
      for (const std::int64_t k : {1, 17, 64}) {
        for (const bool transposed : {false, true}) {
          const std::vector<float> a = random_floats(m * k, 1), b = random_floats(k * n, 2);
          for (const bool accumulate : {false, true}) {
            std::vector<float> c(static_cast<std::size_t>(m * n), accumulate ? 0.25f : kNaN);
            const LeftFactor left{a.data(), transposed ? 1 : k, transposed ? m : 1};
            small_product(m, n, k, left, {b.data(), n}, c.data(), n, accumulate);
            for (std::int64_t i = 0; i < m; ++i) {
              for (std::int64_t j = 0; j < n; ++j) {
                double sum = accumulate ? 0.25 : 0.0;
                for (std::int64_t p = 0; p < k; ++p) {
                  sum += double(left.data[i * left.row + p * left.column]) *
                         double(b[static_cast<std::size_t>(p * n + j)]);
                }
                ASSERT_NEAR(c[static_cast<std::size_t>(i * n + j)], sum, 1e-5)
                    << m << " x " << n << " x " << k << " at " << i << ", " << j;
              }
            }
          }
        }
      }
    }
  }
}

TEST(SmallProduct, TransposeFillsWholeRegistersWithZeros) {
  for (const std::int64_t m : {1, 15, 16, 33}) {
    for (const std::int64_t n : {1, 16, 24}) {
      const std::int64_t rows = round_up(n, kLanes), columns = round_up(m, kLanes);
      const std::vector<float> from = random_floats(m * (n + 3), 5);
      std::vector<float> to(static_cast<std::size_t>(rows * columns), kNaN);
      transpose(from.data(), n + 3, m, n, to.data(), columns);
      for (std::int64_t j = 0; j < rows; ++j) {
        for (std::int64_t i = 0; i < columns; ++i) {
          const float expected =
              j < n && i < m ? from[static_cast<std::size_t>(i * (n + 3) + j)] : 0.0f;
          ASSERT_EQ(to[static_cast<std::size_t>(j * columns + i)], expected) << i << ", " << j;
        }
      }
    }
  }
}

TEST(Parallel, SharesCoverEverythingOnce) {
  for (const std::int64_t n : {0, 1, 5, 64, 1000}) {
    for (const int threads : {1, 3, 7}) {
      for (const std::int64_t grain : {1, 16}) {
        std::int64_t next = 0;
        for (int t = 0; t < threads; ++t) {
          const Range range = share(n, t, threads, grain);
          EXPECT_EQ(range.begin, next);
          EXPECT_TRUE(range.begin % grain == 0 || range.begin == n);
          next = range.end;
        }
        EXPECT_EQ(next, n);
      }
    }
  }
}

// On every thread, and no longer than the work takes.
TEST(Parallel, DenormalNumbersAreZeros) {
  const volatile float smallest = std::numeric_limits<float>::min();
  for (const int threads : {1, 3}) {
    std::vector<float> halves(3, 1.0f), read(3, 1.0f);
    on_parts(Team(3, threads),
             [&](int part) { halves[static_cast<std::size_t>(part)] = smallest * 0.5f; });
    for_each_dynamic(threads, 3, [&](std::int64_t i, int) {
      const volatile float denormal = std::numeric_limits<float>::denorm_min();
      read[static_cast<std::size_t>(i)] = denormal * 1e30f;
    });
    for (const float value : halves) EXPECT_EQ(value, 0.0f) << threads;
    for (const float value : read) EXPECT_EQ(value, 0.0f) << threads;
    EXPECT_GT(smallest * 0.5f, 0.0f) << threads;
  }
}

TEST(SimdRegister, ReductionsSeeEveryLane) {
  F32 v{};
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(1 << i);
  EXPECT_EQ(sum(v), static_cast<float>((1 << kLanes) - 1));
  for (int i = 0; i < kLanes; ++i) {
    F32 peak = splat(-3.0f);
    peak[i] = -1.0f;
    EXPECT_EQ(max(peak), -1.0f);
  }
  F32 registers[kLanes];
  for (int r = 0; r < kLanes; ++r) registers[r] = v + splat(static_cast<float>(r));
  const F32 sums = sum_each(registers);
  for (int r = 0; r < kLanes; ++r) {
    EXPECT_EQ(sums[r], static_cast<float>((1 << kLanes) - 1 + r * kLanes)) << r;
  }
}

TEST(SimdRegister, Bfloat16IsThatOfTheHost) {
  const float values[] = {
      0.0f,      -0.0f,    1.0f,   1.00390625f, 1.01171875f,
      -3.14159f, 3.39e38f, 1e-37f, kNaN,        std::numeric_limits<float>::infinity()};
  for (const float value : values) {
    Bfloat16 stored[kLanes];
    store(stored, splat(value));
    EXPECT_EQ(stored[kLanes - 1].bits, Bfloat16(value).bits) << value;
    const F32 loaded = load(stored);
    if (std::isnan(value)) continue;
    EXPECT_EQ(loaded[0], static_cast<float>(Bfloat16(value))) << value;
  }
  Bfloat16 row[3] = {Bfloat16(1.0f), Bfloat16(2.0f), Bfloat16(4.0f)};
  store(row, splat(8.0f), FirstLanes{2});
  EXPECT_EQ(sum(load(row, FirstLanes{3})), 20.0f);
}

TEST(Product, HasTasksForEveryThread) {
  using Kernel = F32Kernel<float>;
  for (const int threads : {1, 2, 16}) {
    for (const auto& [m, n, k] : {std::tuple{1024, 768, 768}, std::tuple{8192, 3072, 768},
                                  std::tuple{154, 30522, 768}, std::tuple{8, 768, 768}}) {
      const Blocks<Kernel> blocks(m, n, k, threads, false);
      EXPECT_LE(blocks.depth, Kernel::kDepth);
      EXPECT_LE(blocks.width, Kernel::kWidth);
      EXPECT_LE(blocks.height, Kernel::kHeight);
      const auto tasks = std::min(blocks.copies, blocks.down * blocks.across);
      EXPECT_GE(tasks, threads) << m << " x " << n << " on " << threads;
      const Blocks<Kernel> alone(m, n, k, 1, false);
      EXPECT_EQ(blocks.depth, alone.depth) << "sums are cut as on one thread";
    }
  }
}

struct Sizes {
  std::int64_t m, n, k;
};
// Within a tile, beyond one, and beyond a block of rows, of columns and of k.
const std::vector<Sizes> kSizes = {{5, 1, 7},       {16, 48, 32},   {33, 93, 90},   {129, 128, 65},
                                   {70, 2000, 40},  {40, 50, 2100}, {600, 70, 100}, {520, 530, 20},
                                   {2100, 20, 100}, {2100, 20, 400}};
// A handful of rows.
const std::vector<Sizes> kSizesOfDots = {
    {1, 1, 1}, {1, 70, 768}, {2, 3, 17}, {19, 261, 40}, {kMostDotRows, 66, 300}};
// Around the limits between forms.
const std::vector<Sizes> kSizesAtLimits = {
    {49, 70, 40},    {256, 300, 30},  {257, 300, 30},  {270, 160, 150}, {71, 72, 384},
    {72, 72, 384},   {72, 72, 383},   {72, 71, 384},   {72, 80, 3640},  {72, 80, 3650},
    {384, 384, 384}, {385, 390, 384}, {128, 600, 1000}};

// product(threads, scratch, m, n, k, a, b, accumulate, c, finish), with factors of T, against the
// plain sums; with lines of both factors along memory and across it, where it takes both.
struct Takes {
  bool a_across = true, b_across = true;
};
template <typename T, typename Product>
void expect_plain_sums(const std::vector<Sizes>& all_sizes, Takes takes, Product&& product) {
  const auto rounded = [](std::vector<float> values) {
    std::vector<T> result;
    for (const float v : values) result.emplace_back(v);
    return result;
  };
  Scratch scratch;
  for (const Sizes& sizes : all_sizes) {
    const std::int64_t m = sizes.m, n = sizes.n, k = sizes.k;
    const auto a = rounded(random_floats(m * k, 1)), b = rounded(random_floats(n * k, 2));
    for (const bool a_along : {true, false}) {
      for (const bool b_along : {true, false}) {
        if ((!a_along && !takes.a_across) || (!b_along && !takes.b_across)) continue;
        std::vector<double> sums(static_cast<std::size_t>(m * n), 0.0);
        for (std::int64_t i = 0; i < m; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            for (std::int64_t p = 0; p < k; ++p) {
              const T left = a[static_cast<std::size_t>(a_along ? i * k + p : p * m + i)];
              const T right = b[static_cast<std::size_t>(b_along ? j * k + p : p * n + j)];
              sums[static_cast<std::size_t>(i * n + j)] +=
                  static_cast<double>(static_cast<float>(left)) * static_cast<float>(right);
            }
          }
        }
        std::vector<float> of_one_thread, copied_by_one_thread;
        for (const int threads : {1, 2, 3}) {
          std::vector<float> c(static_cast<std::size_t>(m * n), 1.0f), copied(c.size(), -1.0f);
          std::vector<int> finished(c.size(), 0);
          const auto run = [&](bool accumulate, float* to) {
            product(threads, scratch, m, n, k, Factor<T>{a.data(), a_along ? k : m, a_along},
                    Factor<T>{b.data(), b_along ? k : n, b_along}, accumulate, to,
                    [&](Range rows, Range columns, const float* values, std::int64_t stride) {
                      for (std::int64_t i = rows.begin; i < rows.end; ++i) {
                        for (std::int64_t j = columns.begin; j < columns.end; ++j) {
                          const auto at = static_cast<std::size_t>(i * n + j);
                          ++finished[at];
                          copied[at] = values[(i - rows.begin) * stride + (j - columns.begin)];
                        }
                      }
                    });
          };
          run(true, c.data());
          EXPECT_EQ(finished, std::vector<int>(c.size(), 1));
          EXPECT_EQ(copied, c);
          run(false, nullptr);
          for (std::size_t at = 0; at < c.size(); ++at) {
            ASSERT_NEAR(c[at], 1.0 + sums[at], 2e-5)
                << m << " x " << n << " x " << k << " on " << threads << " threads, element " << at;
            ASSERT_NEAR(copied[at], sums[at], 2e-5);
          }
          if (threads == 1) {
            of_one_thread = c;
            copied_by_one_thread = copied;
          }
          EXPECT_EQ(c, of_one_thread) << "threads decide nothing";
          EXPECT_EQ(copied, copied_by_one_thread) << "threads decide nothing";
        }
      }
    }
  }
}

// Both forms with a kernel, whether or not they would be taken for these sizes.
template <typename Kernel>
void expect_plain_sums() {
  using Element = typename Kernel::Element;
  if constexpr (!Kernel::kRowsInPlace) {
    expect_plain_sums<Element>(kSizes, {}, [](auto&&... arguments) {
      product_by_steps<Kernel>(std::forward<decltype(arguments)>(arguments)...);
    });
  }
  expect_plain_sums<Element>(kSizes, {.b_across = false}, [](auto&&... arguments) {
    product_of_few_rows<Kernel>(std::forward<decltype(arguments)>(arguments)...);
  });
}
template <typename T>
void expect_plain_dots() {
  expect_plain_sums<T>(kSizesOfDots, {.a_across = false, .b_across = false},
                       [](int threads, Scratch&, auto&&... arguments) {
                         dot_products(threads, std::forward<decltype(arguments)>(arguments)...);
                       });
}

TEST(Product, EqualsThePlainSum) { expect_plain_sums<F32Kernel<float>>(); }
TEST(Product, OfRowsInPlaceEqualsThePlainSum) {
  expect_plain_sums<F32InPlaceKernel<1>>();
  expect_plain_sums<F32InPlaceKernel<2>>();
  expect_plain_sums<F32InPlaceKernel<3>>();
  expect_plain_sums<F32InPlaceKernel<4>>();
}
TEST(Product, OfLinesEqualsThePlainSum) { expect_plain_dots<float>(); }
TEST(Product, OfLinesOfBfloat16EqualsThePlainSum) { expect_plain_dots<Bfloat16>(); }
TEST(Product, WhicheverIsFastestEqualsThePlainSum) {
  EXPECT_TRUE(worth_splitting(270, 160, 150));
  const bool tiles = product_instructions<float>() == ProductInstructions::tiles;
  for (const auto& [m, k] : {std::pair{72, 384}, std::pair{384, 384}, std::pair{72, 3640}}) {
    EXPECT_EQ(few_rows_by_tiles(m, k), tiles) << m << " x " << k;
  }
  for (const auto& [m, k] :
       {std::pair{71, 384}, std::pair{385, 384}, std::pair{72, 383}, std::pair{72, 3650}}) {
    EXPECT_FALSE(few_rows_by_tiles(m, k)) << m << " x " << k;
  }
  for (const auto& sizes : {kSizes, kSizesOfDots, kSizesAtLimits}) {
    expect_plain_sums<float>(sizes, {}, [](auto&&... arguments) {
      product<float>(std::forward<decltype(arguments)>(arguments)...);
    });
    expect_plain_sums<Bfloat16>(sizes, {}, [](auto&&... arguments) {
      product<Bfloat16>(std::forward<decltype(arguments)>(arguments)...);
    });
  }
}
TEST(Product, InThreePartsByTilesEqualsThePlainSum) {
#if BERT_CPU_TILES
  if (!may_use_tiles()) GTEST_SKIP() << "the system grants no tile registers";
  expect_plain_sums<SplitKernel>();
  expect_plain_sums<FewRowsSplitKernel>();
#else
  GTEST_SKIP() << "compiled for a processor without AMX-BF16";
#endif
}

// c [m, n] = a [m, k] times b [n, k] transposed.
template <typename Kernel>
std::vector<float> product_of(const std::vector<float>& a, const std::vector<float>& b,
                              std::int64_t m, std::int64_t n, std::int64_t k) {
  Scratch scratch;
  std::vector<float> c(static_cast<std::size_t>(m * n));
  product_by_steps<Kernel>(1, scratch, m, n, k, {a.data(), k, true}, {b.data(), k, true}, false,
                           c.data(), [](Range, Range, const float*, std::int64_t) {});
  return c;
}

#if BERT_CPU_TILES
class SplitKernelTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!may_use_tiles()) GTEST_SKIP() << "the system grants no tile registers";
  }
};

// Times one, every number comes out as it went in, to its last bit.
TEST_F(SplitKernelTest, ThreePartsAreTheWholeNumber) {
  constexpr std::int64_t kSize = 40;
  std::vector<float> numbers = random_floats(kSize * kSize, 5), one(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = std::ldexp(numbers[i], static_cast<int>(i % 200) - 80);
  }
  numbers[3] = 3.38e38f;
  numbers[4] = -std::nextafter(1.0f, 2.0f);
  numbers[5] = -0x1.fffffep-100f;
  for (std::int64_t i = 0; i < kSize; ++i) one[static_cast<std::size_t>(i * (kSize + 1))] = 1.0f;
  EXPECT_EQ(product_of<SplitKernel>(numbers, one, kSize, kSize, kSize), numbers);
  numbers[7] = kNaN;
  const auto with_nan = product_of<SplitKernel>(numbers, one, kSize, kSize, kSize);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    EXPECT_EQ(std::isnan(with_nan[i]), i < kSize) << i;  // the first row's sums have it as a term
  }
}

// Errors are no larger than those of sums whose products are single instructions in f32, whether
// terms have different signs or one, be they few or many.
TEST_F(SplitKernelTest, IsAsExactAsSumsInF32) {
  for (const float shift : {0.0f, 0.5f}) {
    for (const std::int64_t k : {1, 8, 64, 768, 3072}) {
      constexpr std::int64_t kSize = 64;
      auto a = random_floats(kSize * k, 8), b = random_floats(kSize * k, 9);
      for (float& v : a) v += shift;
      for (float& v : b) v += shift;
      const auto rms_error = [&](const std::vector<float>& c) {
        double squares = 0.0;
        for (std::int64_t i = 0; i < kSize; ++i) {
          for (std::int64_t j = 0; j < kSize; ++j) {
            double sum = 0.0, size = 0.0;
            for (std::int64_t p = 0; p < k; ++p) {
              const double term = static_cast<double>(a[static_cast<std::size_t>(i * k + p)]) *
                                  static_cast<double>(b[static_cast<std::size_t>(j * k + p)]);
              sum += term;
              size += term * term;
            }
            const double error = (c[static_cast<std::size_t>(i * kSize + j)] - sum);
            squares += error * error / size;
          }
        }
        return std::sqrt(squares / (kSize * kSize)) * 0x1p24;
      };
      const double split = rms_error(product_of<SplitKernel>(a, b, kSize, kSize, k));
      const double plain = rms_error(product_of<F32Kernel<float>>(a, b, kSize, kSize, k));
      std::printf(
          "%4d terms %s: root mean square of errors, in roundings of their terms', %.2f in "
          "three parts, %.2f in f32\n",
          static_cast<int>(k), shift > 0.0f ? "of one sign" : "of both signs", split, plain);
      EXPECT_LE(split, 1.05 * plain) << k;
    }
  }
}
#endif

TEST(Product, OfBfloat16InF32EqualsThePlainSum) { expect_plain_sums<F32Kernel<Bfloat16>>(); }
TEST(Product, OfBfloat16ByDotProductsEqualsThePlainSum) {
#if defined(__AVX512BF16__)
  expect_plain_sums<DotKernel>();
#else
  GTEST_SKIP() << "compiled for a processor without AVX512-BF16";
#endif
}
TEST(Product, OfBfloat16ByTilesEqualsThePlainSum) {
#if BERT_CPU_TILES
  if (!may_use_tiles()) GTEST_SKIP() << "the system grants no tile registers";
  expect_plain_sums<AmxKernel>();
#else
  GTEST_SKIP() << "compiled for a processor without AMX-BF16";
#endif
}

}  // namespace
}  // namespace bert::cpu
