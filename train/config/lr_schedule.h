// The learning rate of each optimizer step.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/named_values.h"

namespace bert {

enum class Decay { linear, google, constant };
inline constexpr Named<Decay> kDecays[] = {
    {Decay::linear, "linear"}, {Decay::google, "google"}, {Decay::constant, "constant"}};
constexpr std::string_view decay_name(Decay decay) { return name_of(kDecays, decay); }

// A pure function of the step. Warm-up: peak * t / warmup_steps while t < warmup_steps. Then
//   linear    from peak at the end of warm-up to 0 at max_steps (the usual one; Hugging Face's
//             get_linear_schedule_with_warmup)
//   google    peak * (1 - t / max_steps), decaying from step 0 on, so that the rate drops where
//             warm-up ends (google-research/bert optimization.py)
//   constant  peak
struct LrSchedule {
  double peak = 1e-4;
  std::int64_t warmup_steps = 0;
  std::int64_t max_steps = 1;
  Decay decay = Decay::linear;

  // `step`: optimizer steps done before this one, so 0 for the first (whose rate is 0 with
  // warm-up, as in both sources). 0 at and beyond max_steps, except for `constant`.
  double at(std::int64_t step) const;
};

}  // namespace bert
