#include "train/config/lr_schedule.h"

namespace bert {

double LrSchedule::at(std::int64_t step) const {
  const auto t = static_cast<double>(step);
  const auto warmup = static_cast<double>(warmup_steps);
  const auto end = static_cast<double>(max_steps);
  if (step < warmup_steps) return peak * (t / warmup);
  if (decay == Decay::constant) return peak;
  if (step >= max_steps) return 0.0;
  if (decay == Decay::google) return peak * (1.0 - t / end);
  return peak * ((end - t) / (end - warmup));
}

}  // namespace bert
