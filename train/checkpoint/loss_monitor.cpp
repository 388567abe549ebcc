#include "train/checkpoint/loss_monitor.h"

#include <algorithm>
#include <cmath>

namespace bert {
namespace {

constexpr std::int64_t kWindow = 200;  // steps that weigh the most: the mean age of what counts
constexpr std::int64_t kFewest = 50;   // known before anything is called a spike
// Losses that hardly differ at all (a model that repeats one batch) have no spikes of a thousandth.
constexpr double kLeastDeviation = 0.01;  // of the mean

// An exponentially weighted mean and variance (Finch 2009, "Incremental calculation of weighted
// mean and variance"), plain ones for the first.
LossStatistics with_last(LossStatistics statistics) {
  if (!std::isfinite(statistics.last)) return statistics;
  ++statistics.count;
  const double weight = 1.0 / static_cast<double>(std::min(statistics.count, kWindow));
  const double difference = statistics.last - statistics.mean;
  statistics.mean += weight * difference;
  statistics.variance = (1.0 - weight) * (statistics.variance + weight * difference * difference);
  return statistics;
}

}  // namespace

double LossMonitor::limit(std::int64_t step, std::int64_t phase) const {
  constexpr double kNone = std::numeric_limits<double>::infinity();
  if (z_score_ == 0.0 || phase != statistics_.phase) return kNone;
  const LossStatistics known =
      statistics_.last_step <= step - 2 ? with_last(statistics_) : statistics_;
  if (known.count < kFewest) return kNone;
  return known.mean + z_score_ * std::max(std::sqrt(known.variance), kLeastDeviation * known.mean);
}

void LossMonitor::add(std::int64_t step, std::int64_t phase, double loss) {
  statistics_ = phase == statistics_.phase ? with_last(statistics_) : LossStatistics{};
  statistics_.phase = phase;
  statistics_.last = loss;
  statistics_.last_step = step;
}

}  // namespace bert
