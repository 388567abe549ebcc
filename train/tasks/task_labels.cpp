#include "train/tasks/task_labels.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <system_error>

#include <fmt/ranges.h>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kMostLabels = 1000;
constexpr std::size_t kMostShown = 10;

std::string shown(std::span<const std::string> labels) {
  return fmt::format("{}{}", fmt::join(labels.first(std::min(labels.size(), kMostShown)), ", "),
                     labels.size() > kMostShown ? ", ..." : "");
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

LabelIndex::LabelIndex(const std::vector<std::string>& labels) : labels_(labels) {
  for (const std::string& label : labels) {
    indices_.emplace(label, static_cast<std::int32_t>(indices_.size()));
  }
}

std::optional<std::int32_t> LabelIndex::find(std::string_view label) const {
  const auto found = indices_.find(label);
  if (found == indices_.end()) return std::nullopt;
  return found->second;
}

std::string LabelIndex::unknown(std::string_view label) const {
  return fmt::format("'{}' is none of the labels: {}", label, shown(labels_));
}

std::vector<std::string> ordered_labels(const std::set<std::string>& labels,
                                        const std::string& file) {
  std::vector<std::string> ordered(labels.begin(), labels.end());
  if (ordered.size() < 2) {
    throw_input_error("{}: has {} label{}, expected at least two", file,
                      ordered.empty() ? "no" : "only the", ordered.empty() ? "" : " " + ordered[0]);
  }
  if (ordered.size() > kMostLabels) {
    throw_input_error("{}: has {} different labels ({}): is it the right column?", file,
                      ordered.size(), shown(ordered));
  }
  const bool integers = std::all_of(ordered.begin(), ordered.end(), [](const std::string& label) {
    return parse_integer(label).has_value();
  });
  if (integers) {
    std::stable_sort(ordered.begin(), ordered.end(),
                     [](const std::string& a, const std::string& b) {
                       return *parse_integer(a) < *parse_integer(b);
                     });
  }
  return ordered;
}

}  // namespace bert
