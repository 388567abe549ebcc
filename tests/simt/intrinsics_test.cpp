// kernels/cuda/intrinsics.cuh, reduce.cuh and vec.cuh against plain loops: in the harness, and, the
// same kernels compiled by nvcc, on a GPU (BERT_ON_GPU).
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "tests/simt/intrinsics_kernels.h"

#ifdef BERT_ON_GPU
#include <cuda_runtime_api.h>
namespace device = bert::cuda;
#else
namespace device = bert::simt;
#endif

namespace bert {
namespace {

// Memory that both the host and kernels reach.
template <typename T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : count_(count) {
#ifdef BERT_ON_GPU
    void* memory = nullptr;
    if (cudaMallocManaged(&memory, count * sizeof(T)) != cudaSuccess) throw std::bad_alloc();
    data_ = static_cast<T*>(memory);
#else
    data_ = new (std::align_val_t{64}) T[count];
#endif
    std::memset(static_cast<void*>(data_), 0xFF, count * sizeof(T));
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~Buffer() {
#ifdef BERT_ON_GPU
    cudaFree(data_);
#else
    ::operator delete[](data_, std::align_val_t{64});
#endif
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  operator T*() const { return data_; }
  std::vector<T> values() const {
#ifdef BERT_ON_GPU
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
#endif
    return {data_, data_ + count_};
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

class IntrinsicsTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef BERT_ON_GPU
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
      if (std::getenv("BERT_REQUIRE_CUDA") != nullptr) GTEST_FAIL() << "no CUDA device";
      GTEST_SKIP() << "no CUDA device";
    }
#endif
  }
};

// Small integers and halves: exact in bf16, and so are sums of their products in f32.
std::vector<float> exact_values(std::size_t count, unsigned seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = (static_cast<float>(seed >> 24) - 128.0f) / 2.0f;
  }
  return values;
}
std::uint16_t bf16_bits(float x) {  // of a value that bf16 holds
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
}
float bf16_rounded(float x) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u);
}
std::vector<std::uint16_t> bf16_bits(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float value : values) bits.push_back(bf16_bits(value));
  return bits;
}

std::vector<float> product(const std::vector<float>& a, const std::vector<float>& b,
                           const std::vector<float>& c, std::size_t depth) {
  std::vector<float> d = c;
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 8; ++j) {
      for (std::size_t k = 0; k < depth; ++k) d[i * 8 + j] += a[i * depth + k] * b[k * 8 + j];
    }
  }
  return d;
}

TEST_F(IntrinsicsTest, AddsVectors) {
  const std::vector<float> x = exact_values(1000, 1), y = exact_values(1000, 2);
  const Buffer<float> on_x(x), on_y(y), sum(1000);
  device::launch_add(on_x, on_y, sum, 1000);
  const std::vector<float> sums = sum.values();
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(sums[i], x[i] + y[i]) << i;
}

TEST_F(IntrinsicsTest, AnEmptyGridLaunchesNothing) {
  const Buffer<float> nothing(1);
  device::launch_add(nothing, nothing, nothing, 0);
  EXPECT_TRUE(std::isnan(nothing.values()[0]));
}

TEST_F(IntrinsicsTest, BlockReductionsGiveAllThreadsTheResult) {
  for (const int threads : {32, 64, 256, 1024}) {
    const std::size_t count = static_cast<std::size_t>(threads) * 3;
    const std::vector<float> x = exact_values(count, 3);
    const Buffer<float> on_x(x), sum(count), largest(count);
    device::launch_block_sum(on_x, sum, 3, threads);
    device::launch_block_max(on_x, largest, 3, threads);
    const std::vector<float> sums = sum.values(), maxima = largest.values();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t first =
          i / static_cast<std::size_t>(threads) * static_cast<std::size_t>(threads);
      float expected = 0.0f, expected_max = -1e30f;
      for (std::size_t j = first; j < first + static_cast<std::size_t>(threads); ++j) {
        expected += x[j];
        expected_max = std::max(expected_max, x[j]);
      }
      ASSERT_EQ(sums[i], expected) << threads << " threads, thread " << i;
      ASSERT_EQ(maxima[i], expected_max) << threads << " threads, thread " << i;
    }
  }
}

TEST_F(IntrinsicsTest, MultipliesBf16) {
  const std::vector<float> a = exact_values(256, 4), b = exact_values(128, 5),
                           c = exact_values(128, 6);
  const Buffer<std::uint16_t> on_a(bf16_bits(a)), on_b(bf16_bits(b));
  const Buffer<float> on_c(c), d(128);
  device::launch_mma_bf16(on_a, on_b, on_c, d);
  EXPECT_EQ(d.values(), product(a, b, c, 16));
}

TEST_F(IntrinsicsTest, LoadsMatrices) {
  std::vector<std::uint16_t> rows(256);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::uint16_t>(i * 257);
  const Buffer<std::uint16_t> on_rows(rows);
  for (const bool transposed : {false, true}) {
    const Buffer<unsigned> out(128);
    device::launch_ldmatrix(on_rows, out, transposed);
    const std::vector<unsigned> registers = out.values();
    for (std::size_t i = 0; i < 128; ++i) {
      const std::size_t m = i / 32, g = i % 32 / 4, t = i % 4;
      const auto element = [&](std::size_t row, std::size_t column) -> unsigned {
        return transposed ? rows[m * 64 + column * 8 + row] : rows[m * 64 + row * 8 + column];
      };
      ASSERT_EQ(registers[i], element(g, 2 * t) | element(g, 2 * t + 1) << 16)
          << (transposed ? "transposed, " : "") << "register " << i;
    }
  }
}

TEST_F(IntrinsicsTest, CopiesAsynchronously) {
  const std::vector<float> in = exact_values(128, 10);
  const Buffer<float> on_in(in), out(128);
  device::launch_cp_async(on_in, out);
  const std::vector<float> copied = out.values();
  for (std::size_t i = 0; i < 128; ++i) ASSERT_EQ(copied[i], i < 64 ? in[i] : 0.0f) << i;
}

TEST_F(IntrinsicsTest, Converts) {
  std::vector<float> x = {0.0f,     -0.0f,  1.0f,        -1.0f,       0.3333333f, 1.00048828125f,
                          -2.0005f, 126.7f, -125.99f,    -160.0f,     -20.5f,     3.14159265f,
                          88.0f,    1e-3f,  1.00390625f, 1.005859375f};
  for (int i = 0; i < 300; ++i) x.push_back(static_cast<float>(i - 150) * 0.0371f);
  const std::size_t count = x.size();
  const Buffer<float> on_x(x), out(3 * count);
  device::launch_conversions(on_x, out, static_cast<int>(count));
  const std::vector<float> y = out.values();
  for (std::size_t i = 0; i < count; ++i) {
    const double exact = std::exp2(static_cast<double>(x[i]));
    if (exact < 0x1.0p-126) {
      EXPECT_EQ(y[i], 0.0f) << x[i];
    } else {
      EXPECT_NEAR(y[i], exact, exact * 3e-7) << x[i];
    }
    EXPECT_EQ(y[count + i], bf16_rounded(x[i])) << x[i];
    EXPECT_EQ(y[2 * count + i], -bf16_rounded(x[i])) << x[i];
  }
}

TEST_F(IntrinsicsTest, MultipliesToSixtyFourBits) {
  std::vector<std::uint32_t> a = {0, 1, 0xFFFFFFFFu, 0xFFFFFFFFu, 0xD2511F53u}, b = a;
  for (std::uint32_t i = 1; a.size() < 97; ++i) {
    a.push_back(i * 0x9E3779B9u);
    b.push_back(i * 0xBB67AE85u);
  }
  const Buffer<std::uint32_t> on_a(a), on_b(b);
  const Buffer<std::uint64_t> out(a.size());
  device::launch_wide_products(on_a, on_b, out, static_cast<int>(a.size()));
  const std::vector<std::uint64_t> products = out.values();
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(products[i], std::uint64_t{a[i]} * b[i]) << i;
  }
}

// Every value of 16 bits in both halves, beside others; the thresholds of several probabilities.
TEST_F(IntrinsicsTest, ComparesHalves) {
  std::vector<std::uint32_t> values;
  for (std::uint32_t v = 0; v < 65536; ++v)
    values.push_back(v << 16 | ((v * 40503u + 7u) & 0xFFFF));
  const Buffer<std::uint32_t> on_values(values), out(values.size());
  for (const unsigned threshold : {2u, 656u, 6554u, 32766u, 32768u, 58982u, 63488u}) {
    device::launch_kept_halves(on_values, threshold, out, static_cast<int>(values.size()));
    const std::vector<std::uint32_t> kept = out.values();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::uint32_t low = (values[i] & 0xFFFF) >= threshold ? 0xFFFF : 0;
      const std::uint32_t high = values[i] >> 16 >= threshold ? 0xFFFF0000 : 0;
      ASSERT_EQ(kept[i], high | low) << std::hex << values[i] << " and " << threshold;
    }
  }
}

TEST_F(IntrinsicsTest, ReadsAndWritesVectors) {
  std::vector<float> x;
  for (int i = 0; i < 1032; ++i) x.push_back(std::sin(static_cast<float>(i)) * 10.0f);
  const Buffer<float> on_x(x), out(x.size());
  const Buffer<std::uint16_t> half(x.size());
  device::launch_round_trip(on_x, half, out, static_cast<int>(x.size()));
  const std::vector<float> y = out.values();
  const std::vector<std::uint16_t> bits = half.values();
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(bits[i], bf16_bits(bf16_rounded(x[i]))) << i;
    ASSERT_EQ(y[i], bf16_rounded(x[i])) << i;
  }
}

}  // namespace
}  // namespace bert
