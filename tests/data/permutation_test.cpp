#include "data/samples/permutation.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace bert {
namespace {

TEST(KeyedPermutation, IsABijection) {
  for (const std::uint64_t size : {1u, 2u, 3u, 4u, 5u, 63u, 64u, 65u, 1000u, 4097u, 100'003u}) {
    for (const std::uint64_t epoch : {0u, 1u, 77u}) {
      const KeyedPermutation order(size, 42, epoch);
      std::vector<bool> seen(size, false);
      for (std::uint64_t i = 0; i < size; ++i) {
        const std::uint64_t element = order(i);
        ASSERT_LT(element, size);
        ASSERT_FALSE(seen[element]) << size << " " << i;
        seen[element] = true;
      }
    }
  }
}

TEST(KeyedPermutation, LargeDomainsStayInside) {
  const std::uint64_t size = (std::uint64_t{1} << 40) + 12345;
  const KeyedPermutation order(size, 1, 2);
  for (std::uint64_t i = 0; i < 1000; ++i) EXPECT_LT(order(size - 1 - i), size);
}

TEST(KeyedPermutation, DependsOnSeedAndEpochOnly) {
  const KeyedPermutation a(1000, 1, 0), same(1000, 1, 0), seed(1000, 2, 0), epoch(1000, 1, 1);
  int equal_seed = 0, equal_epoch = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(a(i), same(i));
    equal_seed += a(i) == seed(i);
    equal_epoch += a(i) == epoch(i);
  }
  // Two random permutations agree at one place on average, at more than ten once in 1e8.
  EXPECT_LE(equal_seed, 10);
  EXPECT_LE(equal_epoch, 10);
}

// Where element i goes, and where its neighbour goes relative to it, are uniform over keys.
TEST(KeyedPermutation, IsUniformOverKeys) {
  constexpr int kSize = 10, kKeys = 50'000;
  double place[kSize][kSize] = {}, distance[kSize] = {};
  for (int key = 0; key < kKeys; ++key) {
    const KeyedPermutation order(kSize, 9, static_cast<std::uint64_t>(key));
    for (std::uint64_t i = 0; i < kSize; ++i) place[i][order(i)] += 1;
    distance[(order(1) + kSize - order(0)) % kSize] += 1;
  }
  const double expected = static_cast<double>(kKeys) / kSize;
  double chi_square = 0;
  for (const auto& row : place) {
    for (const double count : row) chi_square += (count - expected) * (count - expected) / expected;
  }
  // 81 degrees of freedom (rows and columns sum to kKeys): mean 81, deviation 12.7.
  EXPECT_LT(chi_square, 81 + 5 * std::sqrt(2 * 81.0));
  EXPECT_EQ(distance[0], 0);
  chi_square = 0;
  const double expected_distance = static_cast<double>(kKeys) / (kSize - 1);
  for (int d = 1; d < kSize; ++d) {
    chi_square += std::pow(distance[d] - expected_distance, 2) / expected_distance;
  }
  EXPECT_LT(chi_square, 8 + 5 * std::sqrt(2 * 8.0));
}

}  // namespace
}  // namespace bert
