#include "train/config/config_names.h"

#include <algorithm>
#include <limits>

#include "runtime/error.h"
#include "runtime/nearest_name.h"

namespace bert {
namespace {

// Whether `part` is some of the words of `name` ("layers" of "num_hidden_layers"), or the first
// letters of all of them ("lr" of "learning_rate").
bool abbreviates(std::string_view part, std::string_view name) {
  if (part.empty() || part.size() >= name.size()) return false;
  std::string initials;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (i == 0 || name[i - 1] == '_') initials += name[i];
  }
  const std::string words = fmt::format("_{}_", name);
  return words.find(fmt::format("_{}_", part)) != std::string::npos ||
         (part.size() > 1 && part == initials);
}

}  // namespace

std::string_view section_of(std::string_view key) {
  const auto dot = key.find('.');
  return dot == std::string_view::npos ? std::string_view() : key.substr(0, dot);
}

std::string_view leaf_of(std::string_view key) {
  const auto dot = key.find('.');
  return dot == std::string_view::npos ? key : key.substr(dot + 1);
}

std::optional<std::size_t> KeyNames::find(std::string_view name) const {
  const auto it = std::find(names_.begin(), names_.end(), name);
  if (it == names_.end()) return std::nullopt;
  return static_cast<std::size_t>(it - names_.begin());
}

bool KeyNames::is_section(std::string_view name) const {
  return !name.empty() && std::any_of(names_.begin(), names_.end(), [&](const std::string& key) {
    return section_of(key) == name;
  });
}

std::string KeyNames::keys_of_section(std::string_view section) const {
  std::vector<std::string_view> leaves;
  for (const std::string& key : names_) {
    if (section_of(key) == section) leaves.push_back(leaf_of(key));
  }
  return fmt::format("{}", fmt::join(leaves, ", "));
}

std::string KeyNames::nearest(std::string_view name) const {
  const auto dot = name.rfind('.');
  const std::string_view leaf = dot == std::string_view::npos ? name : name.substr(dot + 1);
  std::vector<std::string_view> nearest;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  const auto consider = [&](std::string_view candidate, std::size_t distance) {
    if (distance < least) nearest.clear();
    if (distance <= least) nearest.push_back(candidate);
    least = std::min(least, distance);
  };
  for (const std::string& key : names_) {
    // A right name in a wrong section is nearer than a similar name in the right one.
    consider(key, 2 * edit_distance(name, key));
    consider(key, 2 * edit_distance(leaf, leaf_of(key)) + 1);
    if (abbreviates(leaf, leaf_of(key))) {
      const bool here = dot != std::string_view::npos && section_of(key) == name.substr(0, dot);
      consider(key, here ? 3 : 4);
    }
    if (dot == std::string_view::npos && !section_of(key).empty()) {
      consider(section_of(key), 2 * edit_distance(name, section_of(key)));
    }
  }
  // Abbreviations, and as many wrong letters as one may mistype.
  if (least > std::max<std::size_t>(4, 2 * (leaf.size() / 3) + 1)) return "";
  // A right name in wrong sections: any of them may be meant.
  if (least > 1) nearest.resize(1);
  return fmt::format("{}", fmt::join(nearest, " or "));
}

}  // namespace bert
