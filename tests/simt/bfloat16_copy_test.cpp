// Rounding gradients to bf16 and back, as they travel between GPUs.
#include <cstdint>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "runtime/bfloat16.h"
#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert::simt {

// kernels/cuda/bfloat16_copy.h, compiled for the harness.
void narrow_to_bfloat16(const float* from, void* to, std::int64_t count, cudaStream_t stream);
void widen_from_bfloat16(const void* from, float* to, std::int64_t count, cudaStream_t stream);

namespace {

class Bfloat16Copy : public testing::TestWithParam<std::int64_t> {};

TEST_P(Bfloat16Copy, RoundsToNearestAndBack) {
  const std::int64_t count = GetParam();
  const auto size = static_cast<std::size_t>(count);
  // Aligned as 16-byte accesses need; the element after the last stays as it is.
  std::vector<float> from(size + 1), back(size + 1, 7.0f);
  std::vector<Bfloat16> narrow(size + 1, Bfloat16(7.0f));
  PhiloxStream random(1, 2, 3);
  for (float& x : from) x = static_cast<float>(random.next_double() - 0.5);
  narrow_to_bfloat16(from.data(), narrow.data(), count, nullptr);
  widen_from_bfloat16(narrow.data(), back.data(), count, nullptr);
  for (std::size_t i = 0; i < size; ++i) {
    ASSERT_EQ(static_cast<float>(narrow[i]), static_cast<float>(Bfloat16(from[i]))) << i;
    ASSERT_EQ(back[i], static_cast<float>(Bfloat16(from[i]))) << i;
  }
  EXPECT_EQ(static_cast<float>(narrow[size]), 7.0f);
  EXPECT_EQ(back[size], 7.0f);
}

// Nothing, one thread, a block and more, and more than the grid holds at once.
INSTANTIATE_TEST_SUITE_P(Counts, Bfloat16Copy,
                         testing::Values(0, 8, 2048, 2056, 20000, 2048 * 2049));

TEST(Bfloat16CopyTest, RefusesWhatIsNotInEights) {
  float from[8] = {};
  EXPECT_THROW(narrow_to_bfloat16(from, from, 7, nullptr), RuntimeError);
}

}  // namespace
}  // namespace bert::simt
