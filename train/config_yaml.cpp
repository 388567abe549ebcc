// A Config written as YAML: with every key, and with what each means.

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
      text += fmt::format("{0}# {1}\n{0}# {2}; default: {3}\n", indent, key.meaning, key.expected,
                          default_of(key, config));
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
