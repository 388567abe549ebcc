#include "runtime/command_line.h"

#include <cstdint>
#include <type_traits>
#include <utility>

#include <CLI/CLI.hpp>

#include "runtime/nearest_name.h"
#include "runtime/program.h"

namespace bert {
namespace {

// CLI11 takes "[MASK] is a [MASK]" for a list, but not with a blank before it. So every such text
// that is no option's value gets a blank on its way through CLI11.
bool is_in_brackets(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' ');
  return first != std::string::npos && text[first] == '[' && text.back() == ']';
}

bool takes_value(const CLI::App& app, const std::string& word) {
  const CLI::Option* const option = word.starts_with("-") ? app.get_option_no_throw(word) : nullptr;
  return option != nullptr && option->get_items_expected_max() > 0;
}

std::string without_blank(std::string text) {
  if (text.starts_with(' ') && is_in_brackets(text)) text.erase(0, 1);
  return text;
}

// CLI11 takes -1 for the largest number there is.
void refuse_negative_counts(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_type_name().starts_with("UINT")) continue;
    for (const std::string& given : option->results()) {
      if (!given.starts_with('-')) continue;
      throw_input_error("{}: {} is less than 0 (see {} --help)", option->get_name(), given,
                        app.get_name());
    }
  }
}

[[noreturn]] void refuse_option(const CLI::App& app, std::string option, const OptionHint& hint) {
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

}  // namespace

// --- Option -------------------------------------------------------------------------------------
Option Option::required() { return option_->required(); }
Option Option::one_of(const std::vector<std::string>& names) {
  return option_->check(CLI::IsMember(names));
}
template <typename T>
Option Option::range(T low, T high) {
  return option_->check(CLI::Range(low, high));
}
template Option Option::range(int, int);
template Option Option::range(std::int64_t, std::int64_t);
template Option Option::range(double, double);
Option Option::needs(const std::string& other) { return option_->needs(other); }
Option Option::excludes(const std::string& other) { return option_->excludes(other); }
Option Option::group(const std::string& title) { return option_->group(title); }
Option Option::type_name(const std::string& name) { return option_->type_name(name); }
bool Option::given() const { return option_->count() > 0; }

// --- CommandLine --------------------------------------------------------------------------------
CommandLine::CommandLine(const std::string& purpose, const std::string& program)
    : app_(std::make_unique<CLI::App>(purpose, program)) {}
CommandLine::~CommandLine() = default;

template <typename T>
Option CommandLine::add(const std::string& name, T& value, const std::string& meaning) {
  if constexpr (std::is_same_v<T, bool>) {
    return app_->add_flag(name, value, meaning);
  } else {
    CLI::Option* const option = app_->add_option(name, value, meaning);
    // A text or list that is empty, and what is not there, is no default.
    if (std::is_arithmetic_v<T> || value != T{}) option->capture_default_str();
    if (option->get_type_name() == "TEXT") option->transform(without_blank);
    return option;
  }
}
template Option CommandLine::add(const std::string&, bool&, const std::string&);
template Option CommandLine::add(const std::string&, std::string&, const std::string&);
template Option CommandLine::add(const std::string&, double&, const std::string&);
template Option CommandLine::add(const std::string&, int&, const std::string&);
template Option CommandLine::add(const std::string&, std::int64_t&, const std::string&);
template Option CommandLine::add(const std::string&, std::uint64_t&, const std::string&);
template Option CommandLine::add(const std::string&, std::optional<std::string>&,
                                 const std::string&);
template Option CommandLine::add(const std::string&, std::optional<double>&, const std::string&);
template Option CommandLine::add(const std::string&, std::optional<std::int64_t>&,
                                 const std::string&);
template Option CommandLine::add(const std::string&, std::optional<std::uint64_t>&,
                                 const std::string&);
template Option CommandLine::add(const std::string&, std::vector<std::string>&, const std::string&);
template Option CommandLine::add(const std::string&, std::vector<int>&, const std::string&);
template Option CommandLine::add(const std::string&, std::vector<std::int64_t>&,
                                 const std::string&);

Option CommandLine::add_name(const std::string& name, const std::vector<std::string>& names,
                             const std::string& default_name,
                             const std::function<void(const std::string&)>& set,
                             const std::string& meaning) {
  return app_->add_option_function(name, set, meaning)
      ->check(CLI::IsMember(names))
      ->default_str(default_name);
}

Option CommandLine::add_flag(const std::string& name, std::optional<bool>& value, bool given,
                             const std::string& meaning) {
  return app_->add_flag_callback(
      name, [&value, given] { value = given; }, meaning);
}

Option CommandLine::option(const std::string& name) const { return app_->get_option(name); }

std::optional<int> CommandLine::parse(int argc, char** argv, const OptionHint& hint) {
  app_->set_version_flag("--version", version_string());
  std::vector<std::string> words;  // the last first, as CLI11 wants them
  for (int i = argc - 1; i > 0; --i) {
    words.emplace_back(argv[i]);
    if (is_in_brackets(words.back()) && !takes_value(*app_, argv[i - 1])) {
      words.back().insert(0, 1, ' ');
    }
  }
  try {
    app_->parse(std::move(words));
    refuse_negative_counts(*app_);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app_->exit(error);
    // First of all, as what it leaves behind (its value, or that it lacks) looks wrong too.
    for (const std::string& word : app_->remaining()) {
      if (word.starts_with("-")) refuse_option(*app_, word, hint);
    }
    throw_input_error("{} (see {} --help)", error.what(), app_->get_name());
  }
}

}  // namespace bert
