#include "runtime/command_line.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include <CLI/CLI.hpp>

#include "runtime/error.h"
#include "runtime/nearest_name.h"
#include "runtime/program.h"

namespace bert {
namespace {

// CLI11 takes "[MASK] is a [MASK]" for a list, but not with a blank before it. So whatever is in
// brackets and no list of numbers gets a blank on its way through CLI11.
bool is_in_brackets(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  return first != std::string_view::npos && text[first] == '[' && text.back() == ']';
}

bool takes_numbers(const CLI::App& app, const std::string& word) {
  const CLI::Option* const option = word.starts_with("-") ? app.get_option_no_throw(word) : nullptr;
  if (option == nullptr || option->get_items_expected_max() == 0) return false;
  const std::string type = option->get_type_name();
  return type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT");
}

// In reverse, as CLI11 wants them.
std::vector<std::string> marked_words(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words;
  bool options_ended = false;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    const std::size_t equals = word.find('=');
    if (options_ended || !word.starts_with("--")) {
      const bool numbers = !options_ended && takes_numbers(app, argv[i - 1]);
      if (is_in_brackets(word) && !numbers) word.insert(0, 1, ' ');
    } else if (equals != std::string::npos && !takes_numbers(app, word.substr(0, equals)) &&
               is_in_brackets(std::string_view(word).substr(equals + 1))) {
      word.insert(equals + 1, 1, ' ');
    }
    options_ended = options_ended || word == "--";
    words.push_back(std::move(word));
  }
  std::reverse(words.begin(), words.end());
  return words;
}

std::string without_blank(std::string text) {
  if (is_in_brackets(text)) text.erase(0, 1);
  return text;
}

// CLI11 takes -1 for the largest number there is.
std::string refuse_negative(const std::string& given) {
  const std::size_t first = given.find_first_not_of(' ');
  return first != std::string::npos && given[first] == '-' ? given + " is less than 0" : "";
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
  const auto refuse = [low, high](const std::string& given) -> std::string {
    T value{};
    const bool fits = CLI::detail::lexical_cast(given, value) && value >= low && value <= high;
    return fits ? "" : fmt::format("{} is not from {} to {}", given, low, high);
  };
  return option_->check(refuse,
                        fmt::format("{} in [{} - {}]", CLI::detail::type_name<T>(), low, high));
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
    if (option->get_type_name() == "UINT") option->check(refuse_negative);
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
  try {
    app_->parse(marked_words(*app_, argc, argv));
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
