// The include rule of the project: includes point downwards only (docs/architecture.md).
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

// A source tree: path from the project's root ("model/encoder.h") to its text.
using SourceTree = std::map<std::string, std::string>;

struct Include {
  int line = 0;
  std::string path;  // as written
  bool quoted = false;
};

// The #include lines of a file, comments left out.
std::vector<Include> find_includes(std::string_view text);

// Everything in `tree` that breaks the rule, one line each: "model/a.cpp:3: ...". Empty: all is
// well.
std::vector<std::string> check_include_rule(const SourceTree& tree);

}  // namespace bert
