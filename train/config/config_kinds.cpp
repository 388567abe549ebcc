#include "train/config/config_kinds.h"

namespace bert {

namespace {

// to_yaml, whose overloads cannot be named by themselves.
template <typename T>
std::string written(const T& value) {
  return to_yaml(value);
}

}  // namespace

ValueKind<std::int64_t> integer(IntegerRange range) {
  return {range.text(),
          [=](const ConfigValue& value, const std::string& expected) {
            return value.integer(range, expected);
          },
          written<std::int64_t>};
}

ValueKind<std::uint64_t> unsigned_integer() {
  return {std::string(ConfigValue::kUnsigned),
          [](const ConfigValue& value, const std::string& expected) {
            return value.unsigned_integer(expected);
          },
          written<std::uint64_t>};
}

ValueKind<double> number(NumberRange range) {
  return {range.text(),
          [=](const ConfigValue& value, const std::string& expected) {
            return value.number(range, expected);
          },
          written<double>};
}

ValueKind<bool> boolean() {
  return {
      std::string(ConfigValue::kBoolean),
      [](const ConfigValue& value, const std::string& expected) { return value.boolean(expected); },
      written<bool>};
}

ValueKind<std::string> text(std::string expected) {
  return {std::move(expected),
          [](const ConfigValue& value, const std::string& what) { return value.text(what); },
          written<std::string>};
}

std::string expected_choice(const std::vector<std::string_view>& names) {
  if (names.size() == 2) return fmt::format("{} or {}", names[0], names[1]);
  return fmt::format("{} {}", names.size() == 1 ? "only" : "one of", fmt::join(names, ", "));
}

}  // namespace bert
