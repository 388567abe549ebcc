// Exact match and F1 of answers, as SQuAD's official scripts evaluate-v1.1.py and evaluate-v2.0.py
// count. Shares are percents, as there.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/task_files/squad_file.h"
#include "train/tasks/task.h"

namespace bert {

struct AnswerScore {
  double exact_match = 0, f1 = 0;  // 0 .. 1; of the best of the answers that were asked for
};

// `version2`: an answer without words counts as none, and a question without answers is answered by
// "". Else the question has answers.
AnswerScore score_answer(const SquadQuestion& question, std::string_view prediction, bool version2);

// The best answer to a question, and whether to give none instead.
struct AnswerOrNone {
  double none_score = 0;    // how much better "no answer" is by the model
  bool has_answer = false;  // the question has one
  bool is_empty = false;    // the best answer itself is none
  AnswerScore score;        // of the best answer
};

struct BestThreshold {
  double value = 0;      // mean over the questions, in percent
  double threshold = 0;  // of none_score; above it no answer is given
};
// The threshold by which the mean of AnswerScore's `what` is largest (find_best_thresh of the
// script, but that equal scores are not parted, and that where no answer at all is best the
// threshold lies below all scores).
BestThreshold best_threshold(std::vector<AnswerOrNone> answers, double AnswerScore::*what);

struct SquadScores {
  // exact_match, f1; of version 2 also has_answer_ and no_answer_ of both.
  std::vector<Metric> metrics;
  std::int64_t questions = 0;
  // Questions that are not answered: 0 in version 1.1, not counted in 2.0.
  std::int64_t missing = 0;
  std::int64_t unknown = 0;  // answers to other questions
};
SquadScores score_squad(const SquadFile& gold, const std::map<std::string, std::string>& answers);

// Answers by id: an object {id: text} as the official scripts read, or JSON lines {"id", "text"} as
// TaskDataset::write_predictions writes. InputError naming `file`, and the line or id.
std::map<std::string, std::string> parse_squad_answers(std::string_view content,
                                                       const std::string& file);

// Scores a file of answers; both files may be compressed. `report` gets what is unusual in the
// first.
SquadScores score_squad_files(const std::string& gold_file, const std::string& answers_file,
                              InputReport& report);

}  // namespace bert
