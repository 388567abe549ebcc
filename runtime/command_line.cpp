#include "runtime/command_line.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <CLI/CLI.hpp>

#include "runtime/error.h"
#include "runtime/nearest_name.h"
#include "runtime/program.h"

namespace bert {
namespace {

// The T of a T, an optional T or several of them.
template <typename T>
struct Element {
  using Type = T;
};
template <typename T>
struct Element<std::optional<T>> {
  using Type = T;
};
template <typename T>
struct Element<std::vector<T>> {
  using Type = T;
};

// Says what is wrong with `text`, or writes its number as CLI11 reads it: that takes "" for 0, 010
// for 8, and what is too large for the largest number there is.
template <typename T>
std::string read_number(std::string& text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range) return text + " is out of range";
  if (std::is_unsigned_v<T> && text.starts_with('-')) return text + " is less than 0";
  bool right = error == std::errc() && stop == end;
  if constexpr (std::is_floating_point_v<T>) right = right && std::isfinite(value);
  if (!right) {
    return fmt::format("'{}' is not {}", text,
                       std::is_floating_point_v<T> ? "a number" : "a whole number");
  }
  text = fmt::format("{}", value);
  return "";
}

// CLI11 takes "[MASK] is a [MASK]" for a list, but not with a blank before it. So whatever is in
// brackets and no list of numbers gets a blank on its way through CLI11.
bool is_in_brackets(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' ');
  return first != std::string::npos && text[first] == '[' && text.back() == ']';
}
std::string without_blank(std::string text) {
  if (is_in_brackets(text)) text.erase(0, 1);
  return text;
}

bool takes_numbers(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT");
}

// The words in reverse, as CLI11 wants them. InputError for an option where the value of another
// is expected: CLI11 would take it.
std::vector<std::string> prepared_words(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words;
  const CLI::Option* waiting = nullptr;  // for its value
  const auto add = [&](std::string word) {
    if (is_in_brackets(word) && (waiting == nullptr || !takes_numbers(*waiting))) {
      word.insert(0, 1, ' ');
    }
    words.push_back(std::move(word));
    waiting = nullptr;
  };
  bool options_ended = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i], name = word.substr(0, word.find('='));
    const CLI::Option* const option =
        !options_ended && word.starts_with("--") ? app.get_option_no_throw(name) : nullptr;
    if (option != nullptr && waiting != nullptr) {
      throw_input_error("{}: expected a value, not {} (see {} --help)", waiting->get_name(), word,
                        app.get_name());
    }
    if (option == nullptr || option->get_items_expected_max() == 0) {
      add(word);
    } else {
      add(name);
      waiting = option;
      // Two words, or CLI11 would look for an empty value in the next one.
      if (name != word) add(word.substr(name.size() + 1));
    }
    options_ended = options_ended || word == "--";
  }
  std::reverse(words.begin(), words.end());
  return words;
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
Option Option::required() {
  return option_->required()->check(
      [](const std::string& given) { return given.empty() ? "the value is empty" : ""; });
}
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
    using Value = typename Element<T>::Type;
    if constexpr (std::is_arithmetic_v<Value>) {
      option->transform(CLI::Validator(read_number<Value>, ""));
    } else {
      option->transform(without_blank);
    }
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
    app_->parse(prepared_words(*app_, argc, argv));
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
