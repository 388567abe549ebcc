// Errors. Every error says what was wrong, where (file, line, key, tensor) and what was expected.
//
// Programs catch Error once, in run_program (runtime/program.h), print one `error:` line and exit
// with the error's exit code: 2 for bad input or configuration, 1 for a failure at run time.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#ifdef __NVCC__
#define FMT_USE_CONSTEXPR 1  // fmt 9 thinks that nvcc has none, and then fails to compile
#endif
#include <fmt/format.h>

namespace bert {

class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& message)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// What the user gave is wrong: a file, an option, a configuration key, a damaged checkpoint.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(2, message) {}
};

// Something failed while running: disk full, a rank died, a device error.
class RuntimeError : public Error {
 public:
  explicit RuntimeError(const std::string& message) : Error(1, message) {}
};

template <typename... Args>
[[noreturn]] void throw_input_error(fmt::format_string<Args...> format, Args&&... args) {
  throw InputError(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void throw_runtime_error(fmt::format_string<Args...> format, Args&&... args) {
  throw RuntimeError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace bert

// A broken promise between two pieces of this program (a shape, a dtype): a bug, not bad input.
// Prints the expression and where it stands; thrown so that a failing rank can end the others.
#define BERT_CHECK(condition, ...)                                                          \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      ::bert::throw_runtime_error("{}:{}: internal check failed: {}{}", __FILE__, __LINE__, \
                                  #condition, ::bert::detail::check_message(__VA_ARGS__));  \
    }                                                                                       \
  } while (false)

namespace bert::detail {
inline std::string check_message() { return ""; }
template <typename... Args>
std::string check_message(fmt::format_string<Args...> format, Args&&... args) {
  return ": " + fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace bert::detail
