// Tensors are views, and an arena gives them memory that does not overlap.
#include "runtime/tensor.h"

#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/arena.h"
#include "runtime/philox.h"

namespace bert {
namespace {

TEST(TensorTest, Shape) {
  std::vector<float> memory(24);
  const Tensor tensor(memory.data(), DType::f32, {2, 3, 4});
  EXPECT_TRUE(tensor);
  EXPECT_FALSE(Tensor());
  EXPECT_EQ(tensor.rank(), 3);
  EXPECT_EQ(tensor.rows(), 2);
  EXPECT_EQ(tensor.dim(1), 3);
  EXPECT_EQ(tensor.dim(-1), 4);
  EXPECT_EQ(tensor.numel(), 24);
  EXPECT_EQ(tensor.bytes(), 96u);
  EXPECT_EQ(tensor.shape_string(), "f32[2, 3, 4]");
  EXPECT_EQ(Tensor(memory.data(), DType::f32, {0, 5}).numel(), 0);
  EXPECT_THROW(Tensor(memory.data(), DType::f32, {1, 1, 1, 1, 1}), RuntimeError);
}

TEST(TensorTest, TypesAreChecked) {
  std::vector<double> memory(4);
  const Tensor tensor(memory.data(), DType::f64, {4});
  EXPECT_EQ(tensor.data<double>(), memory.data());
  EXPECT_THROW(tensor.data<float>(), RuntimeError);
  EXPECT_THROW(tensor.data<std::int64_t>(), RuntimeError);
}

TEST(TensorTest, SlicesAndViews) {
  std::vector<std::int32_t> memory(24);
  std::iota(memory.begin(), memory.end(), 0);
  const Tensor tensor(memory.data(), DType::i32, {6, 4});
  const Tensor slice = tensor.slice(2, 3);
  EXPECT_EQ(slice.shape_string(), "i32[3, 4]");
  EXPECT_EQ(slice.data<std::int32_t>()[0], 8);
  EXPECT_EQ(tensor.slice(6, 0).numel(), 0);
  EXPECT_THROW(tensor.slice(4, 3), RuntimeError);
  EXPECT_THROW(tensor.slice(-1, 1), RuntimeError);
  EXPECT_EQ(slice.view({12}).data<std::int32_t>()[11], 19);
  EXPECT_THROW(slice.view({13}), RuntimeError);
}

TEST(DTypeTest, SizesAndNames) {
  EXPECT_EQ(dtype_size(dtype_of<double>), sizeof(double));
  EXPECT_EQ(dtype_size(dtype_of<float>), sizeof(float));
  EXPECT_EQ(dtype_size(dtype_of<std::int32_t>), 4u);
  EXPECT_EQ(dtype_size(dtype_of<std::uint32_t>), 4u);
  EXPECT_EQ(dtype_size(dtype_of<std::int64_t>), 8u);
  EXPECT_EQ(dtype_size(dtype_of<std::uint8_t>), 1u);
  EXPECT_EQ(dtype_name(DType::u8), "u8");
}

TEST(ArenaTest, AlignedAndApart) {
  const auto device = make_cpu_device();
  Arena arena;
  std::vector<Tensor> tensors;
  arena.build(*device, [&](Arena& plan) {
    tensors.clear();
    PhiloxStream random(3, 0, 0);
    for (int i = 0; i < 50; ++i) tensors.push_back(plan.take(DType::f32, {random.next_below(300)}));
  });
  std::size_t total = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto address = reinterpret_cast<std::uintptr_t>(tensors[i].raw());
    EXPECT_EQ(address % Arena::kAlignment, 0u);
    if (i > 0) {
      const auto before = reinterpret_cast<std::uintptr_t>(tensors[i - 1].raw());
      EXPECT_GE(address, before + tensors[i - 1].bytes());
    }
    total += tensors[i].bytes();
    float* data = tensors[i].data<float>();
    std::fill(data, data + tensors[i].numel(), static_cast<float>(i));  // what sanitizers watch
  }
  EXPECT_GE(arena.bytes(), total);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::int64_t j = 0; j < tensors[i].numel(); ++j) {
      ASSERT_EQ(tensors[i].data<float>()[j], static_cast<float>(i));
    }
  }
}

TEST(ArenaTest, APlanMustNotGrow) {
  const auto device = make_cpu_device();
  Arena arena;
  std::int64_t size = 100;
  EXPECT_THROW(arena.build(*device, [&](Arena& plan) { plan.take(DType::f32, {size *= 10}); }),
               RuntimeError);
}

TEST(DeviceTest, CopiesAndFills) {
  const auto device = make_cpu_device();
  EXPECT_TRUE(device->is_cpu());
  DeviceBuffer buffer(*device, 4 * sizeof(int));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
  const int values[] = {1, 2, 3, 4};
  device->copy_from_host(buffer.data(), values, sizeof values);
  DeviceBuffer moved = std::move(buffer);
  int back[4] = {};
  device->copy_to_host(back, moved.data(), sizeof back);
  EXPECT_TRUE(std::equal(values, values + 4, back));
  device->fill_zero(moved.data(), 2 * sizeof(int));
  device->copy_to_host(back, moved.data(), sizeof back);
  EXPECT_EQ(back[1], 0);
  EXPECT_EQ(back[2], 3);
  EXPECT_EQ(DeviceBuffer(*device, 0).data(), nullptr);
  EXPECT_THROW(DeviceBuffer(*device, std::size_t{1} << 62), RuntimeError);
}

TEST(PhiloxStreamTest, BelowABound) {
  PhiloxStream random(5, 1, 2);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(random.next_below(1), 0u);
  // A bound just above 2^31, where taking a remainder would favour small numbers two to one.
  int low = 0;
  constexpr std::uint32_t kBound = 0xC0000000u;
  for (int i = 0; i < 30'000; ++i) low += random.next_below(kBound) < kBound / 3 ? 1 : 0;
  EXPECT_NEAR(low, 10'000, 5 * 82);
}

TEST(PhiloxStreamTest, Doubles) {
  PhiloxStream random(5, 1, 3);
  double sum = 0.0, squares = 0.0;
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.next_double();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.005);
  EXPECT_NEAR(squares / kDraws, 1.0 / 3.0, 0.005);
}

TEST(PhiloxStreamTest, StreamsDiffer) {
  const auto first = [](std::uint64_t seed, std::uint32_t stream, std::uint64_t index) {
    return PhiloxStream(seed, stream, index).next_u32();
  };
  EXPECT_EQ(first(1, 2, 3), first(1, 2, 3));
  EXPECT_NE(first(1, 2, 3), first(2, 2, 3));
  EXPECT_NE(first(1, 2, 3), first(1, 3, 3));
  EXPECT_NE(first(1, 2, 3), first(1, 2, 4));
  EXPECT_NE(first(1, 2, 3), first(1, 2, 3 + (std::uint64_t{1} << 32)));
  EXPECT_NE(first(1, 2, 3), first(1 + (std::uint64_t{1} << 32), 2, 3));
}

}  // namespace
}  // namespace bert
