#include "train/profile/step_profile.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace bert {

void StepProfile::step_took(double seconds) {
  if (!first_) {
    first_ = {1, seconds, ops_.times()};
    ops_.clear();
    return;
  }
  ++number_;
  seconds_ += seconds;
}

std::string StepProfile::table() const {
  if (!first_) return "";
  return table_of(number_ > 0 ? Steps{number_, seconds_, ops_.times()} : *first_, ceilings_);
}

std::string StepProfile::table_of(const Steps& steps, const Ceilings& ceilings) {
  const auto n = static_cast<double>(steps.number);
  std::vector<std::pair<std::string, OpTime>> ops(steps.ops.begin(), steps.ops.end());
  std::sort(ops.begin(), ops.end(),
            [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  OpTime all;
  for (const auto& [name, op] : ops) {
    all.seconds += op.seconds;
    all.calls += op.calls;
  }
  std::string text = fmt::format(
      "profile of {} step{}; a large product ran at {:.0f} GFLOP/s, a copy at {:.1f} GB/s\n"
      "{:<42}{:>10}{:>12}{:>9}{:>12}{:>10}{:>14}",
      steps.number, steps.number == 1 ? "" : "s, without the first", ceilings.product_flops / 1e9,
      ceilings.copy_bytes / 1e9, "op", "calls/step", "ms/step", "share", "GFLOP/s", "GB/s",
      "% of ceiling");
  const auto time = [&](const std::string& name, double seconds, const std::string& calls) {
    text += fmt::format("\n{:<42}{:>10}{:>12.3f}", name, calls, 1e3 * seconds / n);
  };
  for (const auto& [name, op] : ops) {
    time(name, op.seconds, fmt::format("{:.1f}", static_cast<double>(op.calls) / n));
    const double flops = op.flop / op.seconds, bytes = op.bytes / op.seconds;
    const double part =
        op.flop > 0.0 ? flops / ceilings.product_flops : bytes / ceilings.copy_bytes;
    const auto speed = [](double per_second, int decimals) {
      return per_second > 0.0 ? fmt::format("{:.{}f}", per_second / 1e9, decimals)
                              : std::string("-");
    };
    text += fmt::format("{:>7.1f} %{:>12}{:>10}{:>14.1f}", 100.0 * op.seconds / all.seconds,
                        speed(flops, 1), speed(bytes, 2), 100.0 * part);
  }
  time("all ops", all.seconds, fmt::format("{:.1f}", static_cast<double>(all.calls) / n));
  time("outside the ops", steps.seconds - all.seconds, "");
  time("a step", steps.seconds, "");
  return text;
}

}  // namespace bert
