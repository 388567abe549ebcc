#include "train/tasks/squad_metrics.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/task_files/answer_text.h"
#include "data/task_files/json_objects.h"
#include "data/text/read_input.h"
#include "runtime/error.h"
#include "runtime/json.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

class MeanScore {
 public:
  void add(const AnswerScore& score) {
    exact_match_ += score.exact_match;
    f1_ += score.f1;
    ++count_;
  }
  void write(const std::string& prefix, std::vector<Metric>& metrics) const {
    if (count_ == 0) return;
    metrics.push_back({prefix + "exact_match", 100 * exact_match_ / count_});
    metrics.push_back({prefix + "f1", 100 * f1_ / count_});
  }

 private:
  double exact_match_ = 0, f1_ = 0, count_ = 0;
};

// An id's answer, of either form.
template <typename Json>
void add_answer(const Json& text, const std::string& id, const std::string& where,
                std::map<std::string, std::string>& answers) {
  if (!text.is_string()) throw_input_error("{}: the answer to '{}' is not a string", where, id);
  if (!answers.emplace(id, text.template get<std::string>()).second) {
    throw_input_error("{}: '{}' is answered twice", where, id);
  }
}

std::map<std::string, std::string> parse_answer_lines(std::string_view content,
                                                      const std::string& file) {
  std::map<std::string, std::string> answers;
  InputReport refusing;
  for_each_json_object(content, file, refusing, [&](const ordered_json& answer, std::size_t line) {
    const std::string where = fmt::format("{}:{}", file, line);
    if (!answer.contains("id") || !answer["id"].is_string() || !answer.contains("text")) {
      throw_input_error("{}: expected an object with 'id' and 'text'", where);
    }
    add_answer(answer["text"], answer["id"].get<std::string>(), where, answers);
  });
  return answers;
}

}  // namespace

AnswerScore score_answer(const SquadQuestion& question, std::string_view prediction,
                         bool version2) {
  const std::vector<std::string> predicted = answer_words(prediction);
  AnswerScore best;
  const auto compare = [&](const std::vector<std::string>& gold) {
    best.exact_match = std::max(best.exact_match, predicted == gold ? 1.0 : 0.0);
    best.f1 = std::max(best.f1, word_overlap_f1(predicted, gold, version2));
  };
  bool any = false;
  for (const SquadAnswer& answer : question.answers) {
    const std::vector<std::string> gold = answer_words(answer.text);
    if (version2 && gold.empty()) continue;
    compare(gold);
    any = true;
  }
  if (version2 && !any) compare({});
  return best;
}

BestThreshold best_threshold(std::vector<AnswerOrNone> answers, double AnswerScore::*what) {
  if (answers.empty()) return {};
  std::sort(answers.begin(), answers.end(), [](const AnswerOrNone& a, const AnswerOrNone& b) {
    return a.none_score < b.none_score;
  });
  double sum = 0;
  for (const AnswerOrNone& answer : answers) sum += answer.has_answer ? 0 : 1;
  double best = sum;
  double threshold = answers.front().none_score - 1;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    const AnswerOrNone& answer = answers[i];
    sum += answer.has_answer ? answer.score.*what : answer.is_empty ? 0 : -1;
    if (i + 1 < answers.size() && answers[i + 1].none_score == answer.none_score) continue;
    if (sum > best) {
      best = sum;
      threshold = answer.none_score;
    }
  }
  return {100 * best / static_cast<double>(answers.size()), threshold};
}

SquadScores score_squad(const SquadFile& gold, const std::map<std::string, std::string>& answers) {
  const bool version2 = gold.has_no_answers;
  SquadScores scores;
  MeanScore all, with_answer, without_answer;
  for (const SquadQuestion& question : gold.questions) {
    ++scores.questions;
    const auto answer = answers.find(question.id);
    AnswerScore score;
    if (answer != answers.end()) {
      score = score_answer(question, answer->second, version2);
    } else {
      ++scores.missing;
      if (version2) continue;
    }
    all.add(score);
    (question.answers.empty() ? without_answer : with_answer).add(score);
  }
  const std::int64_t known = scores.questions - scores.missing;
  scores.unknown = static_cast<std::int64_t>(answers.size()) - known;
  all.write("", scores.metrics);
  if (version2) {
    with_answer.write("has_answer_", scores.metrics);
    without_answer.write("no_answer_", scores.metrics);
  }
  return scores;
}

std::map<std::string, std::string> parse_squad_answers(std::string_view content,
                                                       const std::string& file) {
  if (first_line_is_object_with(content, {"id", "text"})) {
    return parse_answer_lines(content, file);
  }
  const auto document = parse_json<nlohmann::json>(content, file);
  if (!document.is_object()) {
    throw_input_error("{}: expected an object of answers by id, or JSON lines", file);
  }
  std::map<std::string, std::string> answers;
  for (const auto& [id, text] : document.items()) add_answer(text, id, file, answers);
  return answers;
}

SquadScores score_squad_files(const std::string& gold_file, const std::string& answers_file,
                              InputReport& report) {
  const SquadFile gold = parse_squad(read_input(gold_file), gold_file, SquadAnswers::score, report);
  return score_squad(gold, parse_squad_answers(read_input(answers_file), answers_file));
}

}  // namespace bert
