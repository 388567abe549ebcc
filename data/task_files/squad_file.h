// Questions about texts, as SQuAD's JSON files hold them (versions 1.1 and 2.0), or a question a
// line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/task_files/input_report.h"

namespace bert {

struct SquadAnswer {
  std::string text;
  // Bytes [begin, end) of the context. begin == end: the context has not this text there.
  std::size_t begin = 0, end = 0;
};

struct SquadQuestion {
  std::string id, question;
  std::size_t context = 0;           // of SquadFile::contexts
  std::vector<SquadAnswer> answers;  // empty: it has none (2.0), or is not to be asked for
};

struct SquadFile {
  bool has_no_answers = false;  // a question says whether it "is_impossible": version 2.0
  std::vector<std::string> contexts;
  std::vector<SquadQuestion> questions;  // in the order of the file
};

enum class SquadAnswers {
  learn,   // every question has answers or none on purpose, and the first of them is in its context
  score,   // the same, but what counts is the text of answers, not where they are
  ignore,  // answers are not looked at
};

// `content`, the text of `file`: SQuAD's document, or JSON lines with "question" and "context" and,
// as there, "id" (else the line's number), "answers", "is_impossible". Offsets (answer_start) count
// code points, as in the files. InputError: not JSON, or not of SQuAD's form. To `report`, with the
// question's id in place of a line: an id given twice, an empty question or context, a question
// without answers that does not say is_impossible, an answer that is not in the context where it
// should be (score: unusual).
SquadFile parse_squad(std::string_view content, const std::string& file, SquadAnswers answers,
                      InputReport& report);

}  // namespace bert
