// Writing a configuration as YAML that reads back to the same values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

std::string to_yaml(bool value);
std::string to_yaml(std::int64_t value);
std::string to_yaml(std::uint64_t value);
std::string to_yaml(double value);
std::string to_yaml(const std::string& value);  // in quotes where it has to be

// A key as it is written. Without a value, `instead` is written as a comment in its place.
struct WrittenKey {
  std::string_view name;
  std::string_view meaning, expected;
  std::string default_value;
  std::optional<std::string> value;
  std::string instead;
};

enum class Comments { none, explain };

// All of them under their sections; with Comments::explain each after its meaning, what is expected
// and its default.
std::string write_keys(const std::vector<WrittenKey>& keys, Comments comments);

}  // namespace bert
