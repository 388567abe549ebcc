// Names of classes and tags.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

class LabelIndex {
 public:
  explicit LabelIndex(const std::vector<std::string>& labels);

  std::optional<std::int32_t> find(std::string_view label) const;
  // What to say of a label that is none of them.
  std::string unknown(std::string_view label) const;

 private:
  std::vector<std::string> labels_;
  std::map<std::string, std::int32_t, std::less<>> indices_;
};

// By number if all are integers, else in the order of their bytes. InputError naming `file`: fewer
// than two, or over a thousand, which then are something else.
std::vector<std::string> ordered_labels(const std::set<std::string>& labels,
                                        const std::string& file);

}  // namespace bert
