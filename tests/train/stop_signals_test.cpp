// What ranks make of the signals that reach some of them.
#include "train/stop_signals.h"

#include <algorithm>
#include <csignal>
#include <string>

#include <gtest/gtest.h>

#include "tests/support/one_rank.h"

namespace bert {
namespace {

// One of two, the other of which got `other`.
class BesideAnother final : public OneRank {
 public:
  explicit BesideAnother(int other) : other_(other) {}
  void all_reduce_max(std::vector<std::int64_t>& values) override {
    values[0] = std::max<std::int64_t>(values[0], other_);
  }
  void all_reduce_sum(const Tensor& values) override {
    values.data<std::int64_t>()[0] += other_;
    if (values.numel() > 1) values.data<std::int64_t>()[1] += other_ != 0 ? 1 : 0;
  }

 private:
  int other_;
};

TEST(StopSignals, AreThoseOfAnyRank) {
  const StopSignals signals;
  BesideAnother quiet(0), ended(SIGTERM);
  EXPECT_EQ(signals.received_by_any(quiet), 0);
  EXPECT_EQ(signals.received_by_any(ended), SIGTERM);
  ASSERT_EQ(std::raise(SIGUSR1), 0);
  EXPECT_EQ(signals.received_by_any(quiet), SIGUSR1);
}

TEST(StopSignals, OfDifferentOnesOneIsNamed) {
  const StopSignals signals;
  ASSERT_EQ(std::raise(SIGINT), 0);
  BesideAnother ended(SIGTERM);
  EXPECT_EQ(signal_name(signals.received_by_any(ended)), std::string("SIGTERM"));
}

}  // namespace
}  // namespace bert
