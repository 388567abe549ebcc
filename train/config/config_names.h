// The names of the keys of a configuration, and which of them someone may have meant.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

// Of "optimizer.learning_rate": "optimizer", or "" at the top; and "learning_rate".
std::string_view section_of(std::string_view key);
std::string_view leaf_of(std::string_view key);

class KeyNames {
 public:
  void add(std::string name) { names_.push_back(std::move(name)); }

  // The place of a key, in the order of add; nothing when there is none of that name.
  std::optional<std::size_t> find(std::string_view name) const;
  bool is_section(std::string_view name) const;
  std::string keys_of_section(std::string_view section) const;  // "max_steps, batch_size"
  // The known key or section most like `name`, "" if none is; of keys that only another section
  // tells apart from it all: "data.threads or runtime.threads".
  std::string nearest(std::string_view name) const;

 private:
  std::vector<std::string> names_;
};

}  // namespace bert
