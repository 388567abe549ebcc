// The command line of train and finetune: a configuration, what is said over it, and RunOptions.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "runtime/command_line.h"
#include "runtime/error.h"
#include "train/config/config_names.h"
#include "train/config/config_sections.h"
#include "train/run_opening.h"

namespace bert {

struct RunArguments {
  std::string config;  // a YAML file; "": only the overrides are there, and the defaults are meant
  std::vector<std::string> overrides;
  bool print_config = false;
  RunOptions options;
};

inline void add_run_arguments(CommandLine& line, RunArguments& arguments) {
  line.add("config", arguments.config, "The configuration, a YAML file");
  line.add("overrides", arguments.overrides, "key.path=value, over what the file says");
  line.add("--resume", arguments.options.resume,
           "auto: go on from the run directory's newest valid checkpoint, or start afresh; "
           "DIR: from exactly that checkpoint")
      .type_name("auto|DIR");
  line.add("--dry-run", arguments.options.dry_run,
           "Check everything, print the plan, change nothing");
  line.add("--print-config", arguments.print_config,
           "Print every key with its value, meaning and default; without a configuration, the "
           "defaults");
  line.add("--dump-batches", arguments.options.dump_batches,
           "Append each micro-batch to this file as a JSON line, and save the fresh weights as "
           "step 0: for comparing another implementation on the same data");
}

// As CommandLine::parse; an unknown option may be meant as one of the configuration's `keys`.
inline std::optional<int> parse_run_arguments(CommandLine& line, int argc, char** argv,
                                              const KeyNames& keys) {
  return line.parse(argc, argv, [&keys](const std::string& option) -> std::string {
    std::string key = option.substr(option.find_first_not_of('-'));
    std::replace(key.begin(), key.end(), '-', '_');
    const std::string nearest = keys.nearest(key);
    if (nearest.empty()) return "";
    return fmt::format("keys of the configuration are given as KEY=VALUE; did you mean {}?",
                       nearest);
  });
}

// Once there is a job whose ranks can be told: finds the configuration among the overrides, where
// it may stand. InputError where there is none. `example`: a command's that has one.
inline void require_config(RunArguments& arguments, const std::string& example) {
  std::vector<std::string>& words = arguments.overrides;
  if (!arguments.config.empty()) words.insert(words.begin(), arguments.config);
  arguments.config.clear();
  const auto config = std::find_if(words.begin(), words.end(),
                                   [](const std::string& word) { return !is_override(word); });
  if (config != words.end()) {
    arguments.config = *config;
    words.erase(config);
  } else if (!arguments.print_config) {
    throw_input_error("config: which configuration? For example {}{}{}", example,
                      words.empty() ? "" : " ", fmt::join(words, " "));
  }
}

}  // namespace bert
