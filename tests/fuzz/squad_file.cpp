// SQuAD's JSON (data/task_files/squad_file.h), and its answers as a file of answers. The first byte
// holds options.
#include "data/task_files/squad_file.h"

#include "data/text/unicode.h"
#include "tests/fuzz/fuzz_target.h"
#include "train/tasks/squad_metrics.h"

namespace bert::fuzz {
namespace {

void check(const SquadFile& file) {
  std::map<std::string, std::string> answers;
  bool scored = true;
  for (const SquadQuestion& question : file.questions) {
    require(question.context < file.contexts.size(), "a question has a context");
    require(is_valid_utf8(question.question), "a question is text");
    const std::string& context = file.contexts[question.context];
    for (const SquadAnswer& answer : question.answers) {
      require(answer.begin == answer.end ||
                  context.substr(answer.begin, answer.end - answer.begin) == answer.text,
              "an answer is in its place");
    }
    scored = scored && (file.has_no_answers || !question.answers.empty());
    answers[question.id] = question.answers.empty() ? "" : question.answers.back().text;
  }
  if (!scored) return;
  const SquadScores scores = score_squad(file, answers);
  require(scores.missing == 0 && scores.unknown == 0, "every id is there once");
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  if (size == 0) return 0;
  constexpr bert::SquadAnswers kAnswers[] = {bert::SquadAnswers::learn, bert::SquadAnswers::score,
                                             bert::SquadAnswers::ignore, bert::SquadAnswers::score};
  const auto content = as_text(data + 1, size - 1);
  const auto bad_rows = (data[0] & 4) != 0 ? bert::BadRows::refuse : bert::BadRows::skip;
  accepts([&] {
    bert::InputReport report(bad_rows);
    check(bert::parse_squad(content, "input", kAnswers[data[0] & 3], report));
  });
  accepts([&] { bert::parse_squad_answers(content, "answers"); });
  return 0;
}
