// How many threads a rank computes with, and how it says what with.
#include "train/step/backend.h"

#include <gtest/gtest.h>

namespace bert {
namespace {

// Processors [first, end) of 64.
std::string mask(int first, int end) {
  std::string bits(8, '\0');
  for (int i = first; i < end; ++i) {
    bits[static_cast<std::size_t>(i / 8)] |= static_cast<char>(1 << i % 8);
  }
  return bits;
}

TEST(ShareOfProcessors, RanksThatAreNotBoundShareTheMachine) {
  const std::string all = mask(0, 64);
  EXPECT_EQ(share_of_processors(all, {all}), 64);
  EXPECT_EQ(share_of_processors(all, {all, all, all}), 21);
  EXPECT_EQ(share_of_processors(mask(0, 2), {mask(0, 2), mask(0, 2), mask(0, 2)}), 1);
}

TEST(ShareOfProcessors, WhatARankIsBoundToIsItsOwn) {
  const std::vector<std::string> bound{mask(0, 8), mask(8, 16), mask(16, 24), mask(24, 40)};
  EXPECT_EQ(share_of_processors(bound[1], bound), 8);
  EXPECT_EQ(share_of_processors(bound[3], bound), 16);
}

// As Open MPI binds more than two ranks: each to a socket, with others.
TEST(ShareOfProcessors, OnlyThoseWhoMayUseThemShare) {
  const std::string first = mask(0, 32), second = mask(32, 64);
  const std::vector<std::string> ranks{first, second, first, second, first};
  EXPECT_EQ(share_of_processors(first, ranks), 10);
  EXPECT_EQ(share_of_processors(second, ranks), 16);
  // Some of them are enough.
  EXPECT_EQ(share_of_processors(first, {first, mask(31, 40)}), 16);
}

TEST(ShareOfProcessors, IsOneAtLeast) {
  EXPECT_EQ(share_of_processors(mask(0, 0), {mask(0, 0), mask(0, 0)}), 1);
  EXPECT_GE(make_backend(Precision::fp32).threads, 1);
}

TEST(Backend, DescribesItself) {
  const std::string text = make_backend(Precision::fp32, 1).description();
  EXPECT_TRUE(text.starts_with("cpu f32 with ")) << text;
  EXPECT_NE(text.find(" instructions"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with(", 1 thread")) << text;
  EXPECT_EQ(make_backend(Precision::fp64).description(), "reference f64, 1 thread");
}

}  // namespace
}  // namespace bert
