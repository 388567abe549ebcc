// ConfigValue: one value of a configuration, read strictly. Whatever it is not becomes an
// InputError naming file, line, key, value and what was expected.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <yaml-cpp/yaml.h>

namespace bert {

struct IntegerRange {
  static constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;  // sums of a few still fit

  std::int64_t least = 0, most = kNoLimit;
  std::string text() const;  // "an integer from 1 to 8", "an integer, at least 1"
};

struct NumberRange {
  double least = 0.0, most = std::numeric_limits<double>::infinity();
  bool with_least = true, with_most = true;  // whether the ends belong to it
  bool contains(double value) const;
  std::string text() const;  // "a number x with 0 <= x < 1"
};

class ConfigValue {
 public:
  static constexpr std::string_view kUnsigned = "an integer from 0 to 2^64 - 1";
  static constexpr std::string_view kBoolean = "true or false";

  // `source`: the file, whose lines are then named, or "argument key=value".
  ConfigValue(std::string key, YAML::Node node, std::string source, bool has_lines)
      : key_(std::move(key)), node_(node), source_(std::move(source)), has_lines_(has_lines) {}

  const std::string& key() const { return key_; }
  const YAML::Node& node() const { return node_; }
  std::string where() const;  // "configs/a.yaml:12" or "argument key=value"
  // where() of this value and of each inside it, by its key.
  void note_places(std::map<std::string, std::string, std::less<>>& places) const;

  bool is_null() const { return node_.IsNull(); }
  bool is_auto() const { return node_.IsScalar() && node_.Scalar() == "auto"; }

  // `expected`: what to name instead of the range, where that is not all that is allowed.
  std::int64_t integer(const IntegerRange& range, std::string_view expected = {}) const;
  std::uint64_t unsigned_integer(std::string_view expected = kUnsigned) const;
  double number(const NumberRange& range, std::string_view expected = {}) const;
  bool boolean(std::string_view expected = kBoolean) const;
  std::string text(std::string_view expected) const;  // not empty

  std::vector<ConfigValue> elements() const;  // of a sequence
  // A value that belongs to this one: an element, or a key of a map inside it.
  ConfigValue child(std::string_view name, const YAML::Node& node) const;
  // Calls `use` with each key of a map, by itself, and its value. InputError where one is not a
  // word, or is there twice.
  void for_each_key(
      const std::function<void(const std::string& name, const ConfigValue& item)>& use) const;

  // "<where>: <key> is <value>: expected <expected>"
  [[noreturn]] void refuse(std::string_view expected) const;
  // "<where>: <key> is <value>: <reason>"
  [[noreturn]] void fail(std::string_view reason) const;

 private:
  std::string key_;
  YAML::Node node_;
  std::string source_;
  bool has_lines_;
};

}  // namespace bert
