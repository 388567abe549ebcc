// The options of programs that read text: its format, and what to do with what is wrong in it.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "data/text/text_blocks.h"

namespace bert {

struct TextArguments {
  std::string format = "auto", text_field = TextParsingOptions{}.text_field;
  std::string malformed = "refuse", invalid_utf8 = "replace";

  void add_to(CLI::App& app) {
    app.add_option("--format", format,
                   "text (a line is a sentence or paragraph, a blank line ends a document), jsonl "
                   "(a line is a JSON object and a document), or auto: by each file's first bytes")
        ->check(CLI::IsMember({"auto", "text", "jsonl"}))
        ->capture_default_str();
    app.add_option("--text-field", text_field, "The field of JSON lines that is the text")
        ->capture_default_str();
    app.add_option("--malformed", malformed,
                   "What to do with a JSON line that is none or lacks that field: refuse or skip")
        ->check(CLI::IsMember({"refuse", "skip"}))
        ->capture_default_str();
    app.add_option("--invalid-utf8", invalid_utf8, "replace (by U+FFFD) or refuse")
        ->check(CLI::IsMember({"replace", "refuse"}))
        ->capture_default_str();
  }

  // After the command line was parsed.
  void apply_to(TextParsingOptions& options) const {
    options.format = parse_text_format(format);
    options.text_field = text_field;
    options.skip_malformed = malformed == "skip";
    options.refuse_invalid_utf8 = invalid_utf8 == "refuse";
  }
};

}  // namespace bert
