// What every program's main does around its work: `--version`, one `error:` line, exit codes.
#pragma once

#include <functional>
#include <string>

namespace bert {

// "bert.cu 0.1.0 (commit, compiler, options)".
std::string version_string();

// Runs `body` and returns its exit code; an Error becomes one line "error: ..." on standard error
// and its exit code, any other exception the same with exit code 1. Files at the limit of their
// size (ulimit -f) are such errors too, no signal; and so is what standard output did not take.
int run_program(const std::function<int()>& body);

}  // namespace bert
