// The table of the keys of a configuration: each key once, with its meaning, its range, and how it
// is set and shown. `C` is the struct that they fill; it derives from GivenKeys.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/config/config_kinds.h"
#include "train/config/config_names.h"
#include "train/config/config_reading.h"
#include "train/config/config_value.h"

namespace bert {

template <typename C>
struct ConfigKeyOf {
  std::string name;      // "optimizer.learning_rate"
  std::string meaning;   // a sentence for someone who has not seen it before
  std::string expected;  // "a number > 0"
  std::function<void(C&, const ConfigValue&)> set;  // InputError for what is not expected
  std::function<std::string(const C&)> get;         // as YAML
  std::string default_value;                        // as YAML, or in words
  bool required = false;                            // it has no default

  std::string_view section() const { return section_of(name); }
  std::string_view leaf() const { return leaf_of(name); }
};

template <typename C>
class ConfigTable {
 public:
  // In the order in which they are shown; the keys of a section stand together.
  const std::vector<ConfigKeyOf<C>>& keys() const { return keys_; }
  const KeyNames& names() const { return names_; }
  const ConfigKeyOf<C>* find(std::string_view name) const {  // null when there is none
    const auto place = names_.find(name);
    return place ? &keys_[*place] : nullptr;
  }

  void add(ConfigKeyOf<C> key) {
    key.default_value = key.get(C{});
    names_.add(key.name);
    keys_.push_back(std::move(key));
  }

  // `access` gives the member of a C: [](auto& c) -> auto& { return c.seed; }.
  template <typename Access, typename T>
  void add(std::string name, Access access, ValueKind<T> kind, std::string meaning) {
    const auto set = [=](C& config, const ConfigValue& value) {
      access(config) = kind.read(value, kind.expected);
    };
    const auto get = [=](const C& config) { return kind.write(access(config)); };
    add({std::move(name), std::move(meaning), kind.expected, set, get, {}});
  }

  // The same for a key that must be given.
  template <typename Access, typename T>
  void add_required(std::string name, Access access, ValueKind<T> kind, std::string meaning) {
    add(std::move(name), access, std::move(kind), std::move(meaning));
    keys_.back().default_value = "none, it must be given";
    keys_.back().required = true;
  }

  // Sets what was read. The key `first`, if there is one, comes before the others, wherever it
  // stands.
  void apply(const std::vector<Assignment>& assignments, C& config,
             std::string_view first = {}) const {
    for (const bool now_first : {true, false}) {
      for (const auto& [place, value] : assignments) {
        const ConfigKeyOf<C>& key = keys_[place];
        if ((key.name == first) != now_first) continue;
        key.set(config, value);
        value.note_places(config.given);
      }
    }
  }

  // Every key of `config` as it is written, before what a program changes about it.
  std::vector<WrittenKey> written(const C& config) const {
    std::vector<WrittenKey> list;
    for (const ConfigKeyOf<C>& key : keys_) {
      list.push_back({key.name, key.meaning, key.expected, key.default_value, key.get(config), {}});
    }
    return list;
  }

 private:
  std::vector<ConfigKeyOf<C>> keys_;
  KeyNames names_;
};

}  // namespace bert
