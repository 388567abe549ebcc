// What every program does with its command line.
#pragma once

#include <optional>

#include <CLI/CLI.hpp>

#include "runtime/error.h"
#include "runtime/program.h"

namespace bert {

// Parses; gives the exit code if the program is done (--help, --version). A mistake is an
// InputError: one line, exit code 2.
inline std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv) {
  app.set_version_flag("--version", version_string());
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw_input_error("{} (see {} --help)", error.what(), app.get_name());
  }
}

}  // namespace bert
