// A Config written as YAML: with every key, and with what each means.

#include <algorithm>
#include <string>
#include <string_view>

#include "runtime/error.h"
#include "train/config_keys.h"

namespace bert {
namespace {

// With init_from the model's keys come from its folder; the preset's values would contradict it.
bool comes_from_folder(const Config& config, const ConfigKey& key) {
  return config.model.init_from && key.section() == "model" && key.name != "model.init_from" &&
         !config.is_given(key.name);
}

std::string default_of(const ConfigKey& key, const Config& config) {
  Config preset;
  preset.model.bert = bert_preset(config.model.preset);
  preset.model.bert.vocab_size = 0;
  const std::string value = key.get(preset);
  return value == key.default_value ? value : value + " (" + config.model.preset + ")";
}

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

std::string write(const Config& config, bool explained) {
  std::string text, section;
  for (const ConfigKey& key : config_keys()) {
    if (key.section() != section) {
      section = key.section();
      if (explained) text += '\n';
      text += section + ":\n";
    }
    const std::string indent = section.empty() ? "" : "  ";
    if (explained) {
      text += comment(key.meaning, indent);
      text += comment(key.expected + "; default: " + default_of(key, config), indent);
    }
    if (!comes_from_folder(config, key)) {
      text += fmt::format("{}{}: {}\n", indent, key.leaf(), key.get(config));
    } else if (explained) {
      text += fmt::format("{}# {}: as in {}\n", indent, key.leaf(), *config.model.init_from);
    }
  }
  return text;
}

}  // namespace

std::string config_to_yaml(const Config& config) { return write(config, false); }

std::string explain_config(const Config& config) { return write(config, true); }

}  // namespace bert
