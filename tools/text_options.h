// What fill_mask, embed and predict have in common: where texts come from, and how many at once.
#pragma once

#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "data/task_files/input_report.h"
#include "data/text/text_lines.h"
#include "runtime/command_line.h"
#include "runtime/error.h"
#include "runtime/plural.h"
#include "train/inference/batch_packer.h"
#include "train/logging/throughput.h"

namespace bert {

struct TextOptions {
  std::vector<std::string> files;
  std::string text_field;
  std::optional<std::int64_t> batch_tokens;
  bool skip_bad_rows = false;
};

inline void add_batch_option(CommandLine& line, TextOptions& options) {
  line.add("--batch-tokens", options.batch_tokens,
           "the most tokens that are computed at once, and room for; at least the longest "
           "text. Default: 4096 on a CPU, 32768 on a GPU")
      .range(1, 1 << 24);
}

// --input and what goes with it. `bad_rows`: which lines cannot be used.
inline void add_text_options(CommandLine& line, TextOptions& options, const std::string& bad_rows) {
  line.add("--input", options.files,
           "files, plain or compressed, a text per line; - is standard input, which is "
           "answered as it comes");
  line.add("--text-field", options.text_field,
           "the lines are JSON objects with the text under this name; of files called .jsonl "
           "or .ndjson it is \"text\" unless given");
  line.add("--skip-bad-rows", options.skip_bad_rows,
           "leave out and count lines that cannot be used: " + bad_rows);
  add_batch_option(line, options);
}

// Parses a command line whose TEXTs are `texts`; InputError where they come with --text-field.
inline std::optional<int> parse_texts(CommandLine& line, int argc, char** argv,
                                      const std::vector<std::string>& texts) {
  const std::optional<int> done = line.parse(argc, argv);
  if (!texts.empty() && line.option("--text-field").given()) {
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
