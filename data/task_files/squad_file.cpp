#include "data/task_files/squad_file.h"

#include <set>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "data/task_files/json_objects.h"
#include "data/text/blank.h"
#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/json.h"

namespace bert {
namespace {

using json = nlohmann::ordered_json;

// Where each code point of `text` begins, and its end.
std::vector<std::size_t> code_point_offsets(std::string_view text) {
  std::vector<std::size_t> offsets;
  for (std::size_t position = 0; position < text.size();
       position += decode_utf8(text, position).size) {
    offsets.push_back(position);
  }
  offsets.push_back(text.size());
  return offsets;
}

class SquadParser {
 public:
  SquadParser(const std::string& file, SquadAnswers answers, InputReport& report)
      : file_(file), answers_(answers), report_(report) {}

  SquadFile run(std::string_view content) {
    first_line_is_object_with(content, {"question", "context"}) ? read_lines(content)
                                                                : read_document(content);
    return std::move(squad_);
  }

 private:
  void read_document(std::string_view content) {
    const std::size_t begin = content.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos || content[begin] != '{') {
      throw_input_error(
          "{}: expected JSON as SQuAD's files, which begin with {{\"data\": ..., or an object with "
          "question, context and answers a line",
          file_);
    }
    const auto document = parse_json<json>(content, file_);
    for (const json& article : list(document, "data", file_)) {
      for (const json& paragraph : list(article, "paragraphs", file_)) add_paragraph(paragraph);
    }
  }

  void read_lines(std::string_view content) {
    for_each_json_object(content, file_, report_, [&](const json& record, std::size_t line) {
      const std::string where = fmt::format("{}:{}", file_, line);
      add_context(text(record, "context", where));
      json question = record;
      if (!question.contains("id")) question["id"] = std::to_string(line);
      add_question(question, where);
    });
  }

  static const json& member(const json& value, const char* key, const std::string& where) {
    const auto found = value.is_object() ? value.find(key) : value.end();
    if (!value.is_object() || found == value.end()) {
      throw_input_error("{}: '{}' is missing: expected what SQuAD's files have", where, key);
    }
    return *found;
  }

  static const json& list(const json& value, const char* key, const std::string& where) {
    const json& found = member(value, key, where);
    if (!found.is_array()) throw_input_error("{}: '{}' is not a list", where, key);
    return found;
  }

  static std::string text(const json& value, const char* key, const std::string& where) {
    const json& found = member(value, key, where);
    if (!found.is_string()) throw_input_error("{}: '{}' is not a string", where, key);
    return found.get<std::string>();
  }

  void add_paragraph(const json& paragraph) {
    const std::string after =
        squad_.questions.empty() ? file_ : place(squad_.questions.back().id) + ", or the next";
    add_context(text(paragraph, "context", after));
    for (const json& entry : list(paragraph, "qas", after)) add_question(entry, after);
  }

  void add_context(std::string context) {
    squad_.contexts.push_back(std::move(context));
    offsets_ = code_point_offsets(squad_.contexts.back());
  }

  std::string place(const std::string& id) const { return fmt::format("{}: {}", file_, id); }

  void add_question(const json& entry, const std::string& after) {
    const json& id = member(entry, "id", after);
    SquadQuestion question;
    question.id = id.is_string() ? id.get<std::string>() : id.dump();
    const std::string where = place(question.id);
    question.question = text(entry, "question", where);
    question.context = squad_.contexts.size() - 1;
    if (!seen_.insert(question.id).second) {
      report_.bad("duplicate id", where, "this id was there before");
    } else if (is_blank(question.question) || is_blank(squad_.contexts.back())) {
      report_.bad("empty text", where, "has an empty question or context");
    } else if (answers_ == SquadAnswers::ignore || add_answers(entry, where, question)) {
      squad_.questions.push_back(std::move(question));
    }
  }

  bool add_answers(const json& entry, const std::string& where, SquadQuestion& question) {
    bool impossible = false;
    if (entry.contains("is_impossible")) {
      if (!entry["is_impossible"].is_boolean()) {
        throw_input_error("{}: 'is_impossible' is neither true nor false", where);
      }
      squad_.has_no_answers = true;
      impossible = entry["is_impossible"].get<bool>();
    }
    for (const json& answer : list(entry, "answers", where)) {
      question.answers.push_back(read_answer(answer, where));
    }
    if (impossible == !question.answers.empty()) {
      report_.bad("answers and is_impossible", where,
                  impossible ? "is_impossible, but has answers"
                             : "has no answer and is not said to be impossible");
      return false;
    }
    return impossible || check_place(question, where);
  }

  // The first answer is the one that is learnt.
  bool check_place(const SquadQuestion& question, const std::string& where) {
    const SquadAnswer& first = question.answers.front();
    if (first.begin < first.end) return true;
    const std::string why = fmt::format("'{}' is not in the context at answer_start", first.text);
    if (answers_ == SquadAnswers::learn) {
      report_.bad("answer not in its place", where, why);
      return false;
    }
    report_.unusual("answer not in its place", where, why);
    return true;
  }

  SquadAnswer read_answer(const json& json_answer, const std::string& where) const {
    SquadAnswer answer;
    answer.text = text(json_answer, "text", where);
    const auto start = json_integer<std::int64_t>(member(json_answer, "answer_start", where),
                                                  where + ": answer_start");
    const std::string_view context = squad_.contexts.back();
    if (start < 0 || static_cast<std::size_t>(start) >= offsets_.size()) return answer;
    const std::size_t begin = offsets_[static_cast<std::size_t>(start)];
    if (context.substr(begin, answer.text.size()) != answer.text) return answer;
    answer.begin = begin;
    answer.end = begin + answer.text.size();
    return answer;
  }

  const std::string& file_;
  SquadAnswers answers_;
  InputReport& report_;
  std::vector<std::size_t> offsets_;  // of the last context
  std::set<std::string> seen_;
  SquadFile squad_;
};

}  // namespace

SquadFile parse_squad(std::string_view content, const std::string& file, SquadAnswers answers,
                      InputReport& report) {
  return SquadParser(file, answers, report).run(content);
}

}  // namespace bert
