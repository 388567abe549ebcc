// The table of configuration keys: each key once, with its meaning, its range, and how it is set
// and shown. Adding a key is a member of Config (train/config.h) and an entry here.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/config.h"
#include "train/config_value.h"

namespace bert {

struct ConfigKey {
  std::string name;      // "optimizer.learning_rate"
  std::string meaning;   // a sentence for someone who has not seen it before
  std::string expected;  // "a number > 0"
  std::function<void(Config&, const ConfigValue&)> set;  // InputError for what is not expected
  std::function<std::string(const Config&)> get;         // as YAML
  std::string default_value;                             // as YAML, or in words

  std::string_view section() const;  // "optimizer", or "" at the top
  std::string_view leaf() const;     // "learning_rate"
};

// In the order in which they are shown; the keys of a section stand together.
const std::vector<ConfigKey>& config_keys();
const ConfigKey* find_config_key(std::string_view name);  // null when there is none
// The known key or section most like `name`.
std::string_view nearest_config_key(std::string_view name);

}  // namespace bert
