// The command line of a program: which options it has, and what it was given. CLI11 does the work,
// and is included in command_line.cpp alone, as it takes ten seconds to compile.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/named_values.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace bert {

// What an option that a program does not have, "--name", may stand for: a sentence, or "".
using OptionHint = std::function<std::string(const std::string&)>;

// An option of a CommandLine, to say more about it. Other options are named as they were added,
// which is before. Each function returns the option again.
class Option {
 public:
  Option required();
  Option one_of(const std::vector<std::string>& names);
  template <typename T>
  Option range(T low, T high);  // both allowed; T is int, std::int64_t or double
  Option needs(const std::string& other);
  Option excludes(const std::string& other);  // and is excluded by it
  Option group(const std::string& title);     // in --help; "": it is not shown
  Option type_name(const std::string& name);  // in --help, for what its value is

  bool given() const;  // on the command line that was parsed

 private:
  friend class CommandLine;
  Option(CLI::Option* option) : option_(option) {}  // implicit: functions return CLI11's
  CLI::Option* option_;
};

class CommandLine {
 public:
  CommandLine(const std::string& purpose, const std::string& program);
  ~CommandLine();

  // "--name", or, of a name without dashes, the words that belong to no option. T is
  // - bool: a flag,
  // - std::string, double, int, std::int64_t, or std::uint64_t, of which less than 0 is refused,
  // - std::optional of std::string, double, std::int64_t or std::uint64_t,
  // - std::vector of std::string, int or std::int64_t: one value or several.
  // What `value` is before is the default that --help shows; there is none where it is empty. Texts
  // are taken as they are.
  template <typename T>
  Option add(const std::string& name, T& value, const std::string& meaning);
  template <typename Enum, std::size_t N>
  Option add_choice(const std::string& name, Enum& choice, const Named<Enum> (&table)[N],
                    const std::string& meaning) {
    std::vector<std::string> names;
    for (const auto& [value, known] : table) names.emplace_back(known);
    return add_name(
        name, names, std::string(name_of(table, choice)),
        [&choice, &table, name](const std::string& given) {
          choice = parse_name(table, given, name);
        },
        meaning);
  }
  // A flag, "--name", that sets `value` to `given`.
  Option add_flag(const std::string& name, std::optional<bool>& value, bool given,
                  const std::string& meaning);

  Option option(const std::string& name) const;

  // Gives the exit code if the program is done (--help, --version). A mistake is an InputError.
  std::optional<int> parse(int argc, char** argv, const OptionHint& hint = {});

 private:
  Option add_name(const std::string& name, const std::vector<std::string>& names,
                  const std::string& default_name,
                  const std::function<void(const std::string&)>& set, const std::string& meaning);

  std::unique_ptr<CLI::App> app_;
};

}  // namespace bert
