#include "train/tasks/question_task.h"

#include <algorithm>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/task_files/squad_file.h"
#include "data/text/read_input.h"
#include "data/text/unicode.h"
#include "runtime/error.h"
#include "train/tasks/answer_search.h"
#include "train/tasks/squad_metrics.h"
#include "train/tasks/task_predictions.h"
#include "train/tasks/task_sequences.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

SquadAnswers answers_for(Purpose purpose) {
  switch (purpose) {
    case Purpose::training:
      return SquadAnswers::learn;
    case Purpose::evaluation:
      return SquadAnswers::score;
    default:
      return SquadAnswers::ignore;
  }
}

struct TokenRange {
  std::size_t first = 0, last = 0;
};

// The tokens that share bytes with the answer.
std::optional<TokenRange> tokens_of(const SquadAnswer& answer, std::span<const Token> tokens) {
  std::optional<TokenRange> range;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].end <= answer.begin || tokens[i].begin >= answer.end) continue;
    if (!range) range = TokenRange{i, i};
    range->last = i;
  }
  return range;
}

// What was found for a question.
struct FoundAnswer {
  std::string text;
  std::size_t begin = 0, end = 0;  // bytes of the context
  double score = 0;
};
struct FoundAnswers {
  // Of different texts, the best first; empty: the context has no tokens.
  std::vector<FoundAnswer> best;
  double null_score = 0;  // the least over the windows

  // How much better no answer is.
  double none_score() const { return best.empty() ? 0 : null_score - best.front().score; }
  std::string_view text() const { return best.empty() ? "" : std::string_view(best.front().text); }
};

class QuestionDataset final : public TaskDataset {
 public:
  QuestionDataset(const TaskOptions& options, std::string_view content, const std::string& file,
                  const Tokenizer& tokenizer, Purpose purpose, std::int64_t most_examples)
      : TaskDataset(options.bad_rows, most_examples), options_(options) {
    SquadFile squad = parse_squad(content, file, answers_for(purpose), report_);
    contexts_ = std::move(squad.contexts);
    version2_ = squad.has_no_answers;
    tokens_.resize(contexts_.size());
    for (std::size_t i = 0; i < contexts_.size(); ++i) tokenizer.encode(contexts_[i], tokens_[i]);
    for (SquadQuestion& question : squad.questions) {
      if (has_all()) break;
      if (add(question, fmt::format("{}: {}", file, question.id), tokenizer, purpose)) {
        questions_.push_back(std::move(question));
      }
    }
  }

  std::vector<Metric> metrics(const TaskOutputs& outputs) const override {
    const std::vector<FoundAnswers> found = find_all(outputs);
    SquadFile gold;
    gold.has_no_answers = version2_;
    gold.questions = questions_;
    std::map<std::string, std::string> answers;
    std::vector<AnswerOrNone> choices;
    for (std::size_t i = 0; i < questions_.size(); ++i) {
      answers[questions_[i].id] = is_none(found[i]) ? "" : found[i].text();
      if (!version2_) continue;
      choices.push_back({found[i].none_score(), !questions_[i].answers.empty(),
                         found[i].text().empty(),
                         score_answer(questions_[i], found[i].text(), true)});
    }
    std::vector<Metric> metrics = score_squad(gold, answers).metrics;
    if (!version2_ || !options_.allow_no_answer) return metrics;
    const BestThreshold exact = best_threshold(choices, &AnswerScore::exact_match);
    const BestThreshold f1 = best_threshold(choices, &AnswerScore::f1);
    metrics.push_back({"best_exact_match", exact.value});
    metrics.push_back({"best_exact_match_threshold", exact.threshold});
    metrics.push_back({"best_f1", f1.value});
    metrics.push_back({"best_f1_threshold", f1.threshold});
    return metrics;
  }

  void write_predictions(const TaskOutputs& outputs, std::ostream& out) const override {
    const std::vector<FoundAnswers> found = find_all(outputs);
    for (std::size_t i = 0; i < questions_.size(); ++i) {
      write_line(prediction_json(questions_[i], found[i]), out);
    }
  }

 private:
  std::int64_t outputs_of(const TaskSequence& sequence) const override {
    return static_cast<std::int64_t>(2 * sequence.input_ids.size());
  }

  std::size_t option(std::int64_t value) const { return static_cast<std::size_t>(value); }

  // Adds the sequences of a question; false, and reported, if it cannot be learnt from.
  bool add(const SquadQuestion& question, const std::string& place, const Tokenizer& tokenizer,
           Purpose purpose) {
    const std::vector<Token>& context = tokens_[question.context];
    std::optional<TokenRange> answer;
    if (!question.answers.empty()) {
      answer = find_answer(question.answers.front(), context, place);
      if (!answer && purpose == Purpose::training) {
        report_.bad("answer without tokens", place, "the tokenizer leaves nothing of the answer");
        return false;
      }
    }
    const std::vector<Token> asked = encode_question(question.question, place, tokenizer);
    const std::vector<ContextWindow> windows =
        context_windows(context.size(), option(options_.max_length) - asked.size() - 3,
                        option(options_.doc_stride));
    bool seen_whole = false;
    for (const ContextWindow& window : windows) {
      add_window(asked, context, window, answer, tokenizer.special());
      seen_whole = seen_whole || sequences_.back().start > 0;
    }
    if (answer && !seen_whole) {
      report_.unusual("answer in no window", place,
                      fmt::format("no window holds all of an answer of {} tokens",
                                  answer->last - answer->first + 1));
    }
    windows_.insert(windows_.end(), windows.begin(), windows.end());
    ++num_examples_;
    return true;
  }

  std::optional<TokenRange> find_answer(const SquadAnswer& answer, std::span<const Token> tokens,
                                        const std::string& place) {
    const std::optional<TokenRange> range = tokens_of(answer, tokens);
    if (range &&
        (tokens[range->first].begin < answer.begin || tokens[range->last].end > answer.end)) {
      report_.unusual("answer within a token", place,
                      fmt::format("'{}' is part of a longer word", answer.text));
    }
    return range;
  }

  std::vector<Token> encode_question(const std::string& question, const std::string& place,
                                     const Tokenizer& tokenizer) {
    std::vector<Token> tokens;
    tokenizer.encode(question, tokens);
    report_long_words(tokenizer, question, tokens, place, report_);
    const std::size_t most = option(options_.max_query_length);
    if (tokens.size() > most) {
      report_.truncated("long question", place,
                        fmt::format("{} of {} tokens are kept", most, tokens.size()));
      tokens.resize(most);
    }
    return tokens;
  }

  void add_window(const std::vector<Token>& asked, const std::vector<Token>& context,
                  const ContextWindow& window, const std::optional<TokenRange>& answer,
                  const SpecialTokens& special) {
    TaskSequence sequence = assemble_sequence(
        special, asked, std::span(context).subspan(window.first, window.count), true);
    sequence.example = num_examples_;
    if (answer && answer->first >= window.first && answer->last < window.first + window.count) {
      const std::size_t shift = context_row(sequence, window) - window.first;
      sequence.start = static_cast<std::int32_t>(answer->first + shift);
      sequence.end = static_cast<std::int32_t>(answer->last + shift);
    }
    sequences_.push_back(std::move(sequence));
  }

  // Where the context's tokens begin in a sequence: [SEP] ends it.
  static std::size_t context_row(const TaskSequence& sequence, const ContextWindow& window) {
    return sequence.input_ids.size() - 1 - window.count;
  }

  std::vector<FoundAnswers> find_all(const TaskOutputs& outputs) const {
    check_outputs(outputs);
    std::vector<FoundAnswers> found;
    std::size_t begin = 0;
    for (const SquadQuestion& question : questions_) {
      std::size_t end = begin;
      while (end < sequences_.size() && sequences_[end].example == sequences_[begin].example) ++end;
      found.push_back(find(question, begin, end, outputs));
      begin = end;
    }
    return found;
  }

  // The answers of sequences [begin, end).
  FoundAnswers find(const SquadQuestion& question, std::size_t begin, std::size_t end,
                    const TaskOutputs& outputs) const {
    FoundAnswers found;
    std::vector<WindowLogits> logits;
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t length = sequences_[i].input_ids.size();
      const std::size_t row = context_row(sequences_[i], windows_[i]);
      const std::span<const float> start = std::span(outputs[i]).first(length);
      const std::span<const float> stop = std::span(outputs[i]).last(length);
      logits.push_back(
          {start.subspan(row, windows_[i].count), stop.subspan(row, windows_[i].count)});
      const double none = static_cast<double>(start[0]) + static_cast<double>(stop[0]);
      found.null_score = i == begin ? none : std::min(found.null_score, none);
    }
    const std::string& context = contexts_[question.context];
    const std::vector<Token>& tokens = tokens_[question.context];
    std::set<std::string> seen;
    for (const AnswerSpan& span :
         best_answers(std::span(windows_).subspan(begin, end - begin), logits,
                      option(options_.max_answer_length), option(options_.n_best))) {
      const std::size_t from = tokens[span.first].begin, to = tokens[span.last].end;
      std::string text = context.substr(from, to - from);
      if (seen.insert(text).second) found.best.push_back({std::move(text), from, to, span.score});
    }
    return found;
  }

  bool is_none(const FoundAnswers& found) const {
    return found.best.empty() ||
           (options_.allow_no_answer && found.none_score() > options_.null_threshold);
  }

  ordered_json prediction_json(const SquadQuestion& question, const FoundAnswers& found) const {
    const std::string_view context = contexts_[question.context];
    const auto entry = [&](const FoundAnswer& answer) {
      return ordered_json{{"text", answer.text},
                          {"start", count_utf8(context.substr(0, answer.begin))},
                          {"end", count_utf8(context.substr(0, answer.end))},
                          {"score", rounded(answer.score)}};
    };
    const bool none = is_none(found);
    ordered_json record{{"id", question.id}};
    record.update(entry(none ? FoundAnswer{"", 0, 0, found.null_score} : found.best.front()));
    if (options_.allow_no_answer) record["null_score"] = rounded(found.null_score);
    std::vector<FoundAnswer> all = found.best;
    if (options_.allow_no_answer) {
      const auto place = std::find_if(all.begin(), all.end(), [&](const FoundAnswer& answer) {
        return answer.score < found.null_score;
      });
      all.insert(place, {"", 0, 0, found.null_score});
    }
    std::vector<double> scores;
    for (const FoundAnswer& answer : all) scores.push_back(answer.score);
    const std::vector<double> probabilities = softmax(scores);
    record["n_best"] = ordered_json::array();
    for (std::size_t i = 0; i < all.size(); ++i) {
      record["n_best"].push_back(entry(all[i]));
      record["n_best"].back()["probability"] = rounded(probabilities[i]);
    }
    return record;
  }

  TaskOptions options_;
  std::vector<std::string> contexts_;
  bool version2_ = false;
  std::vector<std::vector<Token>> tokens_;  // of each context
  std::vector<SquadQuestion> questions_;    // of each example
  std::vector<ContextWindow> windows_;      // of each sequence
};

class QuestionTask final : public Task {
 public:
  explicit QuestionTask(TaskOptions options) : Task(std::move(options)) {}

  std::vector<std::string> metric_names() const override { return {"exact_match", "f1"}; }
  std::string default_metric() const override { return "f1"; }

 private:
  std::unique_ptr<TaskDataset> parse_file(std::string_view content, const std::string& file,
                                          const Tokenizer& tokenizer, Purpose purpose,
                                          std::int64_t most_examples) const override {
    return std::make_unique<QuestionDataset>(options_, content, file, tokenizer, purpose,
                                             most_examples);
  }
};

}  // namespace

std::unique_ptr<Task> make_question_task(TaskOptions options) {
  return std::make_unique<QuestionTask>(std::move(options));
}

bool has_no_answers(const std::string& file, const TaskOptions& options) {
  InputReport report(options.bad_rows);
  const SquadFile squad = parse_squad(read_input(file), file, SquadAnswers::learn, report);
  return std::any_of(squad.questions.begin(), squad.questions.end(),
                     [](const SquadQuestion& question) { return question.answers.empty(); });
}

}  // namespace bert
