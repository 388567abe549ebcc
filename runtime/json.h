// JSON out of files that anybody may have written.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/error.h"

namespace bert {

inline constexpr int kMostJsonDepth = 100;

// What must be known of `text`, JSON or not, before the library reads it. InputError naming
// `source`:
// - Lists and objects are nested deeper than kMostJsonDepth. The library reads any depth, but
//   copies, compares and prints values by recursion: brackets alone would end the program by a full
//   stack.
// - It holds a NUL byte, which the library takes for the end: disks leave such bytes after a crash.
void check_json_text(std::string_view text, const std::string& source);

// What `text` says. InputError naming `source`, a path: it is not JSON, holds a number that no
// double can, or is nested too deep.
template <typename Json>
Json parse_json(std::string_view text, const std::string& source);

// `value` in one line. What is not UTF-8 in it, as names of files may be, is replaced.
template <typename Json>
std::string one_line(const Json& value);

// Compiled once, in json.cpp: the library's reader and writer take the compiler seconds.
extern template nlohmann::json parse_json(std::string_view, const std::string&);
extern template nlohmann::ordered_json parse_json(std::string_view, const std::string&);
extern template std::string one_line(const nlohmann::json&);
extern template std::string one_line(const nlohmann::ordered_json&);

// JSON has neither infinities nor NaN.
inline nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
}

// `value` as a T. InputError naming `where` (file and key) if it is no integer, or one that T
// cannot hold: the library would convert it to some other number.
template <std::integral T, typename Json>
T json_integer(const Json& value, std::string_view where) {
  const bool fits =
      value.is_number_unsigned()
          ? std::in_range<T>(value.template get<std::uint64_t>())
          : value.is_number_integer() && std::in_range<T>(value.template get<std::int64_t>());
  if (!fits) {
    const std::string written = one_line(value);
    if (!value.is_number_integer()) {
      throw_input_error("{} is {}: expected an integer", where, written);
    }
    throw_input_error("{} is {}: expected an integer from {} to {}", where, written,
                      std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
  }
  return value.template get<T>();
}

}  // namespace bert
