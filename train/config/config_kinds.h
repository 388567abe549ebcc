// Kinds of values that a key can have: what is expected, how it is read, how it is written.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/error.h"
#include "runtime/named_values.h"
#include "train/config/config_value.h"
#include "train/config/config_yaml.h"

namespace bert {

template <typename T>
struct ValueKind {
  std::string expected;  // "a number > 0"
  // InputError for what is not expected. Its second argument is `expected`, or that of the kind
  // around this one ("auto or a number > 0").
  std::function<T(const ConfigValue&, const std::string&)> read;
  std::function<std::string(const T&)> write;  // as YAML
};

ValueKind<std::int64_t> integer(IntegerRange range);
ValueKind<std::uint64_t> unsigned_integer();
ValueKind<double> number(NumberRange range);
ValueKind<bool> boolean();
ValueKind<std::string> text(std::string expected);  // any but the empty one

// One of some names: "post or pre", "one of cpu, cuda, auto", "only bf16".
std::string expected_choice(const std::vector<std::string_view>& names);

template <typename Enum>
ValueKind<Enum> choice(std::vector<Enum> values, std::string_view (*name)(Enum)) {
  std::vector<std::string_view> names;
  for (const Enum value : values) names.push_back(name(value));
  const auto read = [=](const ConfigValue& given, const std::string& expected) {
    const std::string text = given.text(expected);
    for (const Enum value : values) {
      if (text == name(value)) return value;
    }
    given.refuse(expected);
  };
  const auto write = [=](const Enum& value) { return to_yaml(std::string(name(value))); };
  return {expected_choice(names), read, write};
}

// Any value of a table.
template <const auto& kTable>
auto choice() {
  using Enum = std::remove_cvref_t<decltype(kTable[0].first)>;
  std::vector<Enum> values;
  for (const auto& [value, name] : kTable) values.push_back(value);
  return choice<Enum>(std::move(values), [](Enum value) { return name_of(kTable, value); });
}

template <typename T>
ValueKind<std::optional<T>> or_auto(ValueKind<T> kind) {
  return {"auto or " + kind.expected,
          [=](const ConfigValue& value, const std::string& expected) {
            return value.is_auto() ? std::nullopt : std::optional<T>(kind.read(value, expected));
          },
          [=](const std::optional<T>& value) { return value ? kind.write(*value) : "auto"; }};
}

template <typename T>
ValueKind<std::optional<T>> or_null(ValueKind<T> kind) {
  return {"null or " + kind.expected,
          [=](const ConfigValue& value, const std::string& expected) {
            return value.is_null() ? std::nullopt : std::optional<T>(kind.read(value, expected));
          },
          [=](const std::optional<T>& value) { return value ? kind.write(*value) : "null"; }};
}

// A list of at least one. `expected`: "a list of names".
template <typename T>
ValueKind<std::vector<T>> list_of(ValueKind<T> element, std::string expected) {
  return {std::move(expected),
          [=](const ConfigValue& value, const std::string& list) {
            std::vector<T> values;
            for (const ConfigValue& item : value.elements()) {
              values.push_back(element.read(item, element.expected));
            }
            if (values.empty()) value.refuse(list);
            return values;
          },
          [=](const std::vector<T>& values) {
            std::vector<std::string> texts;
            for (const T& value : values) texts.push_back(element.write(value));
            return fmt::format("[{}]", fmt::join(texts, ", "));
          }};
}

}  // namespace bert
