// The values of an enum by the names that files and command lines have for them: a table for each.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/error.h"

namespace bert {

template <typename Enum>
using Named = std::pair<Enum, std::string_view>;

// "?" for a value that the table does not have.
template <typename Enum, std::size_t N>
constexpr std::string_view name_of(const Named<Enum> (&table)[N], Enum value) {
  for (const auto& [known, name] : table) {
    if (known == value) return name;
  }
  return "?";
}

// InputError "'NAME' is no WHAT: expected a, b or c".
template <typename Enum, std::size_t N>
Enum parse_name(const Named<Enum> (&table)[N], std::string_view name, std::string_view what) {
  std::string expected;
  for (std::size_t i = 0; i < N; ++i) {
    if (table[i].second == name) return table[i].first;
    expected += fmt::format("{}{}", i == 0 ? "" : i + 1 < N ? ", " : " or ", table[i].second);
  }
  throw_input_error("'{}' is no {}: expected {}", name, what, expected);
}

}  // namespace bert
