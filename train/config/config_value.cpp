#include "train/config/config_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "runtime/error.h"

namespace bert {
namespace {

// The value as the user might have written it, short enough for a message.
std::string written(const YAML::Node& node) {
  if (node.IsNull()) return "empty";
  if (node.IsSequence() && node.size() == 0) return "an empty list";
  if (node.IsSequence()) return fmt::format("a list of {}", node.size());
  if (node.IsMap()) return "a section";
  std::string text = node.Tag() == "!" ? '"' + node.Scalar() + '"' : node.Scalar();
  std::replace(text.begin(), text.end(), '\n', ' ');
  constexpr std::size_t kMost = 80;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

// A plain scalar without its underscores and plus sign; nothing for quoted ones and collections.
std::optional<std::string> plain_number(const YAML::Node& node) {
  if (!node.IsScalar() || node.Tag() == "!") return std::nullopt;
  std::string text = node.Scalar();
  std::erase(text, '_');
  if (text.starts_with('+')) text.erase(0, 1);
  if (text.empty()) return std::nullopt;
  return text;
}

template <typename T>
std::optional<T> parse_all(const std::string& text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_number(const YAML::Node& node) {
  const auto text = plain_number(node);
  // from_chars knows "inf" and "nan" too; neither is a setting.
  const auto value = text ? parse_all<double>(*text) : std::nullopt;
  return value && std::isfinite(*value) ? value : std::nullopt;
}

// 1000000 as well as 1e6.
std::optional<std::int64_t> parse_integer(const YAML::Node& node) {
  const auto text = plain_number(node);
  if (!text) return std::nullopt;
  if (const auto value = parse_all<std::int64_t>(*text)) return value;
  const auto value = parse_number(node);
  if (!value || *value != std::floor(*value) || std::abs(*value) > 0x1p53) return std::nullopt;
  return static_cast<std::int64_t>(*value);
}

}  // namespace

std::string IntegerRange::text() const {
  if (most == kNoLimit) return fmt::format("an integer, at least {}", least);
  return fmt::format("an integer from {} to {}", least, most);
}

bool NumberRange::contains(double value) const {
  return (with_least ? value >= least : value > least) &&
         (with_most ? value <= most : value < most);
}

std::string NumberRange::text() const {
  if (std::isinf(most)) return fmt::format("a number {} {}", with_least ? ">=" : ">", least);
  return fmt::format("a number x with {} {} x {} {}", least, with_least ? "<=" : "<",
                     with_most ? "<=" : "<", most);
}

std::string ConfigValue::where() const {
  if (!has_lines_ || node_.Mark().is_null()) return source_;
  return fmt::format("{}:{}", source_, node_.Mark().line + 1);
}

void ConfigValue::note_places(std::map<std::string, std::string, std::less<>>& places) const {
  places[key_] = where();
  for (const ConfigValue& element : elements()) element.note_places(places);
  if (!node_.IsMap()) return;
  for_each_key([&](const std::string&, const ConfigValue& item) { item.note_places(places); });
}

std::int64_t ConfigValue::integer(const IntegerRange& range, std::string_view expected) const {
  const auto value = parse_integer(node_);
  if (value && *value > IntegerRange::kNoLimit) refuse("an integer of at most 2^60");
  if (!value || *value < range.least || *value > range.most) {
    refuse(expected.empty() ? range.text() : std::string(expected));
  }
  return *value;
}

std::uint64_t ConfigValue::unsigned_integer(std::string_view expected) const {
  const auto text = plain_number(node_);
  const auto value = text ? parse_all<std::uint64_t>(*text) : std::nullopt;
  if (!value) refuse(expected);
  return *value;
}

double ConfigValue::number(const NumberRange& range, std::string_view expected) const {
  const auto value = parse_number(node_);
  if (!value || !range.contains(*value)) {
    refuse(expected.empty() ? range.text() : std::string(expected));
  }
  return *value;
}

bool ConfigValue::boolean(std::string_view expected) const {
  if (node_.IsScalar() && node_.Tag() != "!") {
    if (node_.Scalar() == "true") return true;
    if (node_.Scalar() == "false") return false;
  }
  refuse(expected);
}

std::string ConfigValue::text(std::string_view expected) const {
  if (!node_.IsScalar() || node_.Scalar().empty()) refuse(expected);
  return node_.Scalar();
}

std::vector<ConfigValue> ConfigValue::elements() const {
  std::vector<ConfigValue> list;
  if (!node_.IsSequence()) return list;
  for (std::size_t i = 0; i < node_.size(); ++i) {
    list.emplace_back(fmt::format("{}[{}]", key_, i), node_[i], source_, has_lines_);
  }
  return list;
}

ConfigValue ConfigValue::child(std::string_view name, const YAML::Node& node) const {
  return {key_.empty() ? std::string(name) : fmt::format("{}.{}", key_, name), node, source_,
          has_lines_};
}

void ConfigValue::for_each_key(
    const std::function<void(const std::string& name, const ConfigValue& item)>& use) const {
  std::set<std::string> seen;
  for (const auto& entry : node_) {
    const ConfigValue name = child("?", entry.first);
    if (!entry.first.IsScalar()) throw_input_error("{}: a key is not a word", name.where());
    const ConfigValue item = child(entry.first.Scalar(), entry.second);
    if (!seen.insert(item.key()).second) {
      throw_input_error("{}: {} is given twice", name.where(), item.key());
    }
    use(entry.first.Scalar(), item);
  }
}

void ConfigValue::refuse(std::string_view expected) const {
  fail("expected " + std::string(expected));
}

void ConfigValue::fail(std::string_view reason) const {
  throw_input_error("{}: {} is {}: {}", where(), key_, written(node_), reason);
}

}  // namespace bert
