#include "data/task_files/input_report.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::string_view kRefuse = "refuse", kSkip = "skip";

}  // namespace

BadRows parse_bad_rows(std::string_view name) {
  if (name == kRefuse) return BadRows::refuse;
  if (name == kSkip) return BadRows::skip;
  throw_input_error("'{}' is no way to treat bad rows: expected refuse or skip", name);
}

std::string_view bad_rows_name(BadRows bad_rows) {
  return bad_rows == BadRows::skip ? kSkip : kRefuse;
}

void InputReport::bad(std::string_view kind, std::string_view place, std::string_view why) {
  if (bad_rows_ == BadRows::refuse) {
    throw_input_error(
        "{}: {} ({}; what cannot be used is left out and counted by --skip-bad-rows, in finetune "
        "by data.bad_rows=skip)",
        place, why, kind);
  }
  add(Effect::left_out, kind, place, why);
}

void InputReport::truncated(std::string_view kind, std::string_view place, std::string_view why) {
  add(Effect::truncated, kind, place, why);
}

void InputReport::unusual(std::string_view kind, std::string_view place, std::string_view why) {
  add(Effect::unusual, kind, place, why);
}

void InputReport::add(Effect effect, std::string_view kind, std::string_view place,
                      std::string_view why) {
  auto finding = std::find_if(findings_.begin(), findings_.end(), [&](const Finding& known) {
    return known.effect == effect && known.kind == kind;
  });
  if (finding == findings_.end()) {
    finding = findings_.insert(finding, {effect, std::string(kind), 0, {}});
  }
  ++finding->count;
  if (finding->first.size() < kMostPlaces) {
    finding->first.push_back(fmt::format("{}: {}", place, why));
  }
}

std::uint64_t InputReport::count(Effect effect) const {
  std::uint64_t sum = 0;
  for (const Finding& finding : findings_) sum += finding.effect == effect ? finding.count : 0;
  return sum;
}

std::vector<std::string> InputReport::lines() const {
  std::vector<std::string> lines;
  for (const auto& [effect, kind, count, first] : findings_) {
    const std::string_view what = effect == Effect::left_out    ? "left out"
                                  : effect == Effect::truncated ? "cut"
                                  : count == 1                  ? "unusual, used as it is"
                                                                : "unusual, used as they are";
    lines.push_back(fmt::format("{} {}: {} ({}{})", count, what, kind, fmt::join(first, "; "),
                                count > first.size() ? "; ..." : ""));
  }
  return lines;
}

}  // namespace bert
