// What fill_mask, embed and predict have in common: where texts come from, and how many at once.
#pragma once

#include <iostream>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "data/task_files/input_report.h"
#include "data/text/text_lines.h"
#include "runtime/command_line.h"
#include "runtime/plural.h"
#include "train/inference/batch_packer.h"
#include "train/logging/throughput.h"

namespace bert {

struct TextOptions {
  std::vector<std::string> files;
  std::string text_field;
  std::int64_t batch_tokens = 0;
  bool skip_bad_rows = false;
};

inline void add_batch_option(CLI::App& app, TextOptions& options) {
  app.add_option("--batch-tokens", options.batch_tokens,
                 "the most tokens that are computed at once, and room for; at least the longest "
                 "text. Default: 4096 on a CPU, 32768 on a GPU")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
}

// --input, which is returned, and what goes with it. `bad_rows`: which lines cannot be used.
inline CLI::Option* add_text_options(CLI::App& app, TextOptions& options,
                                     const std::string& bad_rows) {
  CLI::Option* const input =
      app.add_option("--input", options.files,
                     "files, plain or compressed, a text per line; - is standard input, which is "
                     "answered as it comes");
  app.add_option("--text-field", options.text_field,
                 "the lines are JSON objects with the text under this name; of files called .jsonl "
                 "or .ndjson it is \"text\" unless given");
  app.add_flag("--skip-bad-rows", options.skip_bad_rows,
               "leave out and count lines that cannot be used: " + bad_rows);
  add_batch_option(app, options);
  return input;
}

// Parses a command line whose TEXTs are `texts`. CLI11 takes "[MASK] is a [MASK]" for a list in
// brackets, but not with a blank before it, which is taken away again.
inline std::optional<int> parse_texts(CLI::App& app, int argc, char** argv,
                                      std::vector<std::string>& texts) {
  std::vector<std::string> words(argv, argv + argc);
  std::vector<char*> pointers{words.front().data()};
  std::set<std::string> with_blank;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const CLI::Option* const option = app.get_option_no_throw(words[i - 1]);
    const bool is_value = option != nullptr && option->get_items_expected_max() > 0;
    if (!is_value && words[i].starts_with('[') && words[i].ends_with(']')) {
      words[i].insert(0, 1, ' ');
      with_blank.insert(words[i]);
    }
    pointers.push_back(words[i].data());
  }
  const std::optional<int> done = parse_command_line(app, argc, pointers.data());
  for (std::string& text : texts) {
    if (with_blank.contains(text)) text.erase(0, 1);
  }
  if (!texts.empty() && app.get_option("--text-field")->count() > 0) {
    throw_input_error("--text-field is for lines of JSON: TEXT, here \"{}\", is taken as it is",
                      texts.front());
  }
  return done;
}

// Calls `add` with each line, and `answer`, which answers what was added, whenever the next line is
// not there yet: whoever gives one line at a time is answered at once. What comes before a line
// that cannot be used is answered too.
template <typename Add, typename Answer>
void answer_lines(TextLines& lines, InputReport& report, const Add& add, const Answer& answer) {
  try {
    while (const std::optional<TextLine> line = lines.next()) {
      if (line->malformed.empty()) {
        add(*line);
      } else {
        report.bad("malformed line", line->place(), line->malformed);
      }
      if (!lines.ready()) answer();
    }
  } catch (const InputError&) {
    answer();
    throw;
  }
  answer();
}

inline BadRows bad_rows(bool skip) { return skip ? BadRows::skip : BadRows::refuse; }

// What is said at the end, on standard error.
inline void report_input(const InputReport& report) {
  for (const std::string& line : report.lines()) std::cerr << line << '\n';
}
inline void report_texts(const TextLines& lines, const InputReport& report,
                         const BatchPacker& packer, const Throughput& throughput) {
  report_input(report);
  if (lines.invalid_utf8() > 0) {
    std::cerr << "warning: replaced " << plural(lines.invalid_utf8(), "invalid UTF-8 sequence")
              << " by U+FFFD\n";
  }
  std::cerr << throughput.line(packer.sequences(), packer.tokens()) << '\n';
}

}  // namespace bert
