// LossMonitor: what losses have been like lately, and which would be a spike.
#pragma once

#include <cstdint>
#include <limits>

namespace bert {

// Mean and variance of the losses seen, older ones weighing less and less. Part of a checkpoint.
struct LossStatistics {
  std::int64_t count = 0;  // losses in mean and variance
  double mean = 0.0, variance = 0.0;
  // The last loss is not among them: on a GPU it is not known yet when the next step is queued, and
  // limits must be the same on every device and after a resume.
  double last = std::numeric_limits<double>::quiet_NaN();
  std::int64_t last_step = 0;
  std::int64_t phase = 0;  // the first step of the phase that all of them are of
};

class LossMonitor {
 public:
  // A loss is a spike when it is more than `z_score` standard deviations above the mean; 0: never.
  explicit LossMonitor(double z_score) : z_score_(z_score) {}

  // The greatest loss that step `step` (1 for the first) may have, from the losses up to the last
  // but one before it that are of the same phase (Phase::first_step): another one's, of sequences
  // of other lengths, need not be like them. Infinite while there are too few.
  double limit(std::int64_t step, std::int64_t phase) const;
  // The loss of a step that was not refused.
  void add(std::int64_t step, std::int64_t phase, double loss);

  const LossStatistics& statistics() const { return statistics_; }
  void set_statistics(const LossStatistics& statistics) { statistics_ = statistics; }

 private:
  double z_score_;
  LossStatistics statistics_;
};

}  // namespace bert
