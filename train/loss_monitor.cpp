#include "train/loss_monitor.h"

#include <algorithm>
#include <cmath>

namespace bert {
namespace {

constexpr std::int64_t kWindow = 200;  // steps that weigh the most: the mean age of what counts
constexpr std::int64_t kFewest = 50;   // known before anything is called a spike
// Losses that hardly differ at all (a model that repeats one batch) have no spikes of a thousandth.
constexpr double kLeastDeviation = 0.01;  // of the mean

}  // namespace

double LossMonitor::limit(std::int64_t step) {
  if (statistics_.last_step <= step - 2) take_in_last();
  if (z_score_ == 0.0 || statistics_.count < kFewest) {
    return std::numeric_limits<double>::infinity();
  }
  const double mean = statistics_.mean;
  return mean + z_score_ * std::max(std::sqrt(statistics_.variance), kLeastDeviation * mean);
}

void LossMonitor::add(std::int64_t step, double loss) {
  take_in_last();
  statistics_.last = loss;
  statistics_.last_step = step;
}

// An exponentially weighted mean and variance (Finch 2009, "Incremental calculation of
// weighted mean and variance"), plain ones for the first.
void LossMonitor::take_in_last() {
  if (!std::isfinite(statistics_.last)) return;
  ++statistics_.count;
  const double weight = 1.0 / static_cast<double>(std::min(statistics_.count, kWindow));
  const double difference = statistics_.last - statistics_.mean;
  statistics_.mean += weight * difference;
  statistics_.variance = (1.0 - weight) * (statistics_.variance + weight * difference * difference);
  statistics_.last = std::numeric_limits<double>::quiet_NaN();
}

}  // namespace bert
