// Reads the YAML of a configuration and its overrides into what they assign to which key, strictly:
// unknown keys, keys given twice and whatever is no configuration are InputErrors naming file and
// line. Values are read later, each by its key.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "train/config/config_names.h"
#include "train/config/config_value.h"

namespace bert {

// What begins the source of a value that the command line gives; "key=value" follows.
inline constexpr std::string_view kArgument = "argument ";

// A value that a file or an argument gives a key.
struct Assignment {
  std::size_t key;  // its place in the KeyNames
  ConfigValue value;
};

// What the text `yaml` assigns, then each of `overrides` ("key.path=value", the value being YAML),
// in order. `source` is named in errors.
std::vector<Assignment> read_assignments(const std::string& yaml, const std::string& source,
                                         const std::vector<std::string>& overrides,
                                         const KeyNames& names);

}  // namespace bert
