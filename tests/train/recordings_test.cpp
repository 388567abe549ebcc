// What is recorded and what is queued afresh, on a device that only counts.
#include "train/step/recordings.h"

#include <gtest/gtest.h>

#include "tests/support/wrapped_device.h"

namespace bert::test {
namespace {

// A CPU that says what it was asked to record.
class CountingDevice final : public WrappedDevice {
 public:
  void run_recorded(int key, const std::function<void()>& f) override {
    recorded.insert(key);
    f();
  }
  void forget_recordings() override { recorded.clear(); }

  std::set<int> recorded;
};

class RecordingsTest : public ::testing::Test {
 protected:
  void run(Recordings& recordings, int layout, int times, Recording kind = kMicroBatch) {
    for (int i = 0; i < times; ++i) {
      recordings.run(kind, layout, [&] { ++work_; });
    }
  }
  CountingDevice device_;
  int work_ = 0;
};

TEST_F(RecordingsTest, RecordsAtTheSecondTime) {
  Recordings recordings(device_, true);
  run(recordings, 0, 1);
  EXPECT_EQ(device_.recorded.size(), 0u);
  run(recordings, 0, 1, kLastMicroBatch);  // another kind, and so its first time
  EXPECT_EQ(device_.recorded.size(), 0u);
  run(recordings, 0, 2);
  EXPECT_EQ(device_.recorded.size(), 1u);
  EXPECT_EQ(work_, 4);
}

// Layouts that come once take no room from those that come again.
TEST_F(RecordingsTest, RecordsSoManyAndNoMore) {
  Recordings recordings(device_, true);
  const int most = static_cast<int>(Recordings::kMost);
  for (int layout = 0; layout < 2 * most; ++layout) run(recordings, layout, 1);
  for (int layout = 0; layout < most; ++layout) run(recordings, 2 * most + layout, 3);
  EXPECT_EQ(device_.recorded.size(), Recordings::kMost);
  run(recordings, 0, 2);
  EXPECT_EQ(device_.recorded.size(), Recordings::kMost);
  recordings.forget();
  EXPECT_EQ(device_.recorded.size(), 0u);
  run(recordings, 0, 1);
  EXPECT_EQ(device_.recorded.size(), 1u);
  EXPECT_EQ(work_, 2 * most + 3 * most + 3);
}

TEST_F(RecordingsTest, RecordsNothingUnasked) {
  Recordings recordings(device_, false);
  run(recordings, 0, 5);
  EXPECT_EQ(device_.recorded.size(), 0u);
  EXPECT_EQ(work_, 5);
}

}  // namespace
}  // namespace bert::test
