#include "data/tokenization/ordered_pipeline.h"

#include <atomic>
#include <chrono>
#include <stdexcept>

#include <gtest/gtest.h>

#include "tests/data/few_threads.h"

namespace bert {
namespace {

TEST(OrderedPipeline, ResultsComeInTheOrderOfTheInput) {
  for (const int threads : {1, 2, 5}) {
    OrderedPipeline<int, int> pipeline(threads, [](int& input) {
      // Early ones take longest, so that they are overtaken.
      std::this_thread::sleep_for(std::chrono::microseconds(50 * (10 - input % 10)));
      return 2 * input;
    });
    int next = 0;
    for (int i = 0; i < 200; ++i) {
      if (pipeline.in_flight() == 7) {
        EXPECT_EQ(pipeline.take(), 2 * next++);
      }
      pipeline.put(i);
      ASSERT_LE(pipeline.in_flight(), 7u);
    }
    while (pipeline.in_flight() > 0) EXPECT_EQ(pipeline.take(), 2 * next++);
    EXPECT_EQ(next, 200);
  }
}

TEST(OrderedPipeline, AnExceptionIsThrownWhereItsResultIsTaken) {
  OrderedPipeline<int, int> pipeline(2, [](int& input) {
    if (input == 1) throw std::runtime_error("one");
    return input;
  });
  for (int i = 0; i < 3; ++i) pipeline.put(i);
  EXPECT_EQ(pipeline.take(), 0);
  EXPECT_THROW(pipeline.take(), std::runtime_error);
  EXPECT_EQ(pipeline.take(), 2);
}

TEST(OrderedPipeline, SaysThatAThreadCannotBeStarted) {
  expect_refused_with_one_thread(
      [] { OrderedPipeline<int, int> pipeline(3, [](int& input) { return input; }); });
}

TEST(OrderedPipeline, MayBeLeftWithWorkWaiting) {
  std::atomic<int> done{0};
  {
    OrderedPipeline<int, int> pipeline(1, [&](int& input) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ++done;
      return input;
    });
    for (int i = 0; i < 100; ++i) pipeline.put(i);
  }
  EXPECT_LT(done, 100);
}

}  // namespace
}  // namespace bert
