// Sentences of words with tags, in columns as of the CoNLL shared tasks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/task_files/input_report.h"

namespace bert {

struct TaggedSentence {
  std::size_t line = 0;                  // of its first word, from 1
  std::vector<std::string> words, tags;  // of equal length; no tags if not asked for
};

struct ConllOptions {
  std::int64_t token_column = 1, tag_column = -1;  // from 1, or from the last: -1
};

// The sentences of `content`, the text of `file`. A word a line, its columns separated by tabs
// where the line has some, else by blanks; a blank line ends a sentence, and so do lines that begin
// with -DOCSTART-, which are left out. To `report`, with the whole sentence: lines with more or
// fewer columns than the first, a word or tag that is empty, invalid UTF-8. InputError: the first
// line has not the columns that were asked for.
std::vector<TaggedSentence> parse_conll(std::string_view content, const std::string& file,
                                        const ConllOptions& options, bool with_tags,
                                        InputReport& report);

}  // namespace bert
