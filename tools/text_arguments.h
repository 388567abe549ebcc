// The options of programs that read text: its format, and what to do with what is wrong in it.
#pragma once

#include <string>

#include "data/text/text_blocks.h"
#include "runtime/command_line.h"

namespace bert {

struct TextArguments {
  std::string format = "auto", text_field = TextParsingOptions{}.text_field;
  std::string malformed = "refuse", invalid_utf8 = "replace";

  void add_to(CommandLine& line) {
    line.add("--format", format,
             "text (a line is a sentence or paragraph, a blank line ends a document), jsonl (a "
             "line is a JSON object and a document), or auto: by each file's first bytes")
        .one_of({"auto", "text", "jsonl"});
    line.add("--text-field", text_field, "The field of JSON lines that is the text");
    line.add("--malformed", malformed,
             "What to do with a JSON line that is none or lacks that field: refuse or skip")
        .one_of({"refuse", "skip"});
    line.add("--invalid-utf8", invalid_utf8, "replace (by U+FFFD) or refuse")
        .one_of({"replace", "refuse"});
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
