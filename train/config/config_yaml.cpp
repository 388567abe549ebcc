#include "train/config/config_yaml.h"

#include <algorithm>
#include <cctype>

#include <yaml-cpp/yaml.h>

#include "runtime/error.h"
#include "train/config/config_names.h"

namespace bert {
namespace {

// `sentence` as comment lines that are not too long to read.
std::string comment(std::string_view sentence, const std::string& indent) {
  constexpr std::size_t kColumns = 96;
  std::string text, line = indent + "#";
  while (!sentence.empty()) {
    const std::string_view word = sentence.substr(0, sentence.find(' '));
    sentence.remove_prefix(std::min(sentence.size(), word.size() + 1));
    if (line.size() + 1 + word.size() > kColumns) {
      text += line + '\n';
      line = indent + "#";
    }
    line += ' ';
    line += word;
  }
  return text + line + '\n';
}

}  // namespace

std::string to_yaml(bool value) { return value ? "true" : "false"; }

std::string to_yaml(std::int64_t value) { return fmt::format("{}", value); }

std::string to_yaml(std::uint64_t value) { return fmt::format("{}", value); }

std::string to_yaml(double value) {
  std::string text = fmt::format("{}", value);
  // YAML 1.1 wants a point before an exponent; without one, other readers see a string.
  const auto exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) {
    text.insert(exponent, ".0");
  }
  return text;
}

std::string to_yaml(const std::string& value) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' ||
           c == '/';
  };
  static const std::vector<std::string> kWords{"null", "true", "false", "yes", "no", "on", "off"};
  const bool starts_well =
      !value.empty() && (std::isalpha(static_cast<unsigned char>(value[0])) || value[0] == '/');
  std::string lower = value;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (starts_well && std::all_of(value.begin(), value.end(), plain) &&
      std::find(kWords.begin(), kWords.end(), lower) == kWords.end()) {
    return value;
  }
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << value;
  return emitter.c_str();
}

std::string write_keys(const std::vector<WrittenKey>& keys, Comments comments) {
  const bool explain = comments == Comments::explain;
  std::string text, section;
  for (const WrittenKey& key : keys) {
    if (section_of(key.name) != section) {
      section = section_of(key.name);
      if (explain) text += '\n';
      if (!section.empty()) text += section + ":\n";
    }
    const std::string indent = section.empty() ? "" : "  ";
    if (explain) {
      text += comment(key.meaning, indent);
      text += comment(fmt::format("{}; default: {}", key.expected, key.default_value), indent);
    }
    if (key.value) {
      text += fmt::format("{}{}: {}\n", indent, leaf_of(key.name), *key.value);
    } else if (explain) {
      text += fmt::format("{}# {}: {}\n", indent, leaf_of(key.name), key.instead);
    }
  }
  return text;
}

}  // namespace bert
