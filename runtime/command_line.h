// What every program does with its command line.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "runtime/error.h"
#include "runtime/nearest_name.h"
#include "runtime/program.h"

namespace bert {

// What an option that a program does not have, "--name", may stand for: a sentence, or "".
using OptionHint = std::function<std::string(const std::string&)>;

namespace detail {

[[noreturn]] inline void refuse_option(const CLI::App& app, std::string option,
                                       const OptionHint& hint) {
  option = option.substr(0, option.find('='));
  std::vector<std::string> names;
  for (const CLI::Option* known : app.get_options()) {
    for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
  }
  // More than two wrong letters are more often another word.
  std::string meant = nearest_name(option, names, 2);
  if (!meant.empty()) {
    meant = fmt::format("did you mean {}?", meant);
  } else if (hint) {
    meant = hint(option);
  }
  throw_input_error("unknown option {}{}{} (see {} --help)", option, meant.empty() ? "" : "; ",
                    meant, app.get_name());
}

// CLI11 takes -1 for the largest number there is.
inline void refuse_negative_counts(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_type_name().starts_with("UINT")) continue;
    for (const std::string& given : option->results()) {
      if (!given.starts_with('-')) continue;
      throw_input_error("{}: {} is less than 0 (see {} --help)", option->get_name(), given,
                        app.get_name());
    }
  }
}

}  // namespace detail

// Parses; gives the exit code if the program is done (--help, --version). A mistake is an
// InputError: one line, exit code 2.
inline std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv,
                                             const OptionHint& hint = {}) {
  app.set_version_flag("--version", version_string());
  try {
    app.parse(argc, argv);
    detail::refuse_negative_counts(app);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    // First of all, as what it leaves behind (its value, or that it lacks) looks wrong too.
    for (const std::string& word : app.remaining()) {
      if (word.starts_with("-")) detail::refuse_option(app, word, hint);
    }
    throw_input_error("{} (see {} --help)", error.what(), app.get_name());
  }
}

}  // namespace bert
