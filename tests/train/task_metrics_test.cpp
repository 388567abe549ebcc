// Metrics against scikit-learn, scipy and seqeval (tests/reference/make_task_goldens.py), and cases
// that a reader can count.
#include <cmath>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/task_files/answer_text.h"
#include "runtime/file.h"
#include "tests/data/tokenizer_fixture.h"
#include "train/tasks/answer_search.h"
#include "train/tasks/classification_metrics.h"
#include "train/tasks/entity_metrics.h"
#include "train/tasks/regression_metrics.h"
#include "train/tasks/squad_metrics.h"
#include "train/tasks/task_sequences.h"

namespace bert {
namespace {

using nlohmann::json;
using Tags = std::vector<std::string>;

constexpr double kExact = 1e-12;  // a few roundings of doubles near 1

const json& goldens() {
  static const json all =
      json::parse(read_file(BERT_SOURCE_DIR "/tests/reference/goldens/task_metrics.json"));
  return all;
}

TEST(ClassificationMetrics, AgreeWithScikitLearn) {
  for (const json& wanted : goldens()["classification"]) {
    const Confusion found(wanted["gold"].get<std::vector<std::int32_t>>(),
                          wanted["predicted"].get<std::vector<std::int32_t>>(),
                          wanted["classes"].get<std::int64_t>());
    EXPECT_NEAR(found.accuracy(), wanted["accuracy"].get<double>(), kExact);
    EXPECT_NEAR(found.macro_f1(), wanted["macro_f1"].get<double>(), kExact);
    EXPECT_NEAR(found.matthews(), wanted["matthews"].get<double>(), kExact);
    if (wanted.contains("f1")) {
      EXPECT_NEAR(found.f1(1), wanted["f1"].get<double>(), kExact);
    }
  }
}

// tp 3, fp 1, fn 2, tn 4.
TEST(ClassificationMetrics, OfATableByHand) {
  const std::vector<std::int32_t> gold{1, 1, 1, 1, 1, 0, 0, 0, 0, 0};
  const std::vector<std::int32_t> predicted{1, 1, 1, 0, 0, 1, 0, 0, 0, 0};
  const Confusion found(gold, predicted, 2);
  EXPECT_DOUBLE_EQ(found.accuracy(), 0.7);
  EXPECT_DOUBLE_EQ(found.f1(1), 6.0 / 9);
  EXPECT_DOUBLE_EQ(found.f1(0), 8.0 / 11);
  EXPECT_DOUBLE_EQ(found.matthews(), (3 * 4 - 1 * 2) / std::sqrt(4.0 * 5 * 5 * 6));
}

TEST(RegressionMetrics, AgreeWithScipy) {
  for (const json& wanted : goldens()["correlation"]) {
    const auto x = wanted["x"].get<std::vector<double>>();
    const auto y = wanted["y"].get<std::vector<double>>();
    EXPECT_NEAR(pearson(x, y), wanted["pearson"].get<double>(), kExact);
    EXPECT_NEAR(spearman(x, y), wanted["spearman"].get<double>(), kExact);
    EXPECT_EQ(average_ranks(x), wanted["ranks"].get<std::vector<double>>());
    EXPECT_NEAR(mean_squared_error(x, y), wanted["mean_squared_error"].get<double>(), kExact);
  }
}

TEST(RegressionMetrics, NothingCorrelatesWithAConstant) {
  const std::vector<double> x{1, 2, 3}, constant{0.1, 0.1, 0.1}, one{1};
  EXPECT_EQ(pearson(x, constant), 0);
  EXPECT_EQ(spearman(constant, x), 0);
  EXPECT_EQ(pearson(one, one), 0);
  EXPECT_EQ(average_ranks(std::vector<double>{3, 1, 3, 2}), (std::vector<double>{3.5, 1, 3.5, 2}));
}

TEST(EntityMetrics, AgreeWithSeqeval) {
  for (const json& wanted : goldens()["entities"]) {
    EntityScores found;
    for (std::size_t i = 0; i < wanted["gold"].size(); ++i) {
      found.add(wanted["gold"][i].get<Tags>(), wanted["predicted"][i].get<Tags>());
    }
    EXPECT_NEAR(found.all().precision(), wanted["precision"].get<double>(), kExact);
    EXPECT_NEAR(found.all().recall(), wanted["recall"].get<double>(), kExact);
    EXPECT_NEAR(found.all().f1(), wanted["f1"].get<double>(), kExact);
    EXPECT_EQ(found.types().size(), wanted["types"].size());
    for (const auto& [type, counts] : found.types()) {
      const auto scores = wanted["types"][type].get<std::vector<double>>();
      EXPECT_NEAR(counts.precision(), scores[0], kExact) << type;
      EXPECT_NEAR(counts.recall(), scores[1], kExact) << type;
      EXPECT_NEAR(counts.f1(), scores[2], kExact) << type;
    }
  }
}

TEST(EntityMetrics, FindsEntitiesOfEveryScheme) {
  const std::vector<Entity> wanted{{0, 1, "x"}, {1, 3, "x"}, {4, 7, "y-z"}};
  const std::pair<TagScheme, Tags> written[] = {
      {TagScheme::iob1, {"I-x", "B-x", "I-x", "O", "I-y-z", "I-y-z", "I-y-z"}},
      {TagScheme::iob2, {"B-x", "B-x", "I-x", "O", "B-y-z", "I-y-z", "I-y-z"}},
      {TagScheme::iobes, {"S-x", "B-x", "E-x", "O", "B-y-z", "I-y-z", "E-y-z"}}};
  for (const auto& [scheme, tags] : written) {
    EXPECT_EQ(find_entities(tags), wanted) << name_of(kTagSchemes, scheme);
    EXPECT_EQ(tag_entities(wanted, 7, scheme), tags) << name_of(kTagSchemes, scheme);
  }
}

// As conlleval: a change of type begins an entity, and so does I- after O, E- or S-.
TEST(EntityMetrics, ReadsInvalidTags) {
  EXPECT_EQ(find_entities(Tags{"O", "I-x", "I-y", "E-y", "I-y"}),
            (std::vector<Entity>{{1, 2, "x"}, {2, 4, "y"}, {4, 5, "y"}}));
  EXPECT_EQ(find_entities(Tags{"E-x", "E-x", "S-x", "I-x"}),
            (std::vector<Entity>{{0, 1, "x"}, {1, 2, "x"}, {2, 3, "x"}, {3, 4, "x"}}));
  EXPECT_EQ(find_entities(Tags{"B", "I", "O"}), (std::vector<Entity>{{0, 2, "_"}}));
  EXPECT_TRUE(is_entity_tag("S-a-b"));
  for (const char* const tag : {"", "X-a", "B-", "NN", "OO", "Bx"})
    EXPECT_FALSE(is_entity_tag(tag));
}

TEST(AnswerText, AgreesWithTheRulesInPython) {
  for (const json& wanted : goldens()["answers"]) {
    const auto predicted = answer_words(wanted["answer"].get<std::string>());
    const auto gold = answer_words(wanted["other"].get<std::string>());
    EXPECT_EQ(predicted, wanted["words"].get<Tags>()) << wanted["answer"];
    EXPECT_NEAR(word_overlap_f1(predicted, gold, false), wanted["f1"].get<double>(), kExact);
    EXPECT_NEAR(word_overlap_f1(predicted, gold, true), wanted["f1_version2"].get<double>(),
                kExact);
  }
}

SquadQuestion question(const std::string& id, const Tags& answers) {
  SquadQuestion result;
  result.id = id;
  for (const std::string& text : answers) result.answers.push_back({text, 0, 0});
  return result;
}

TEST(SquadMetrics, TheBestOfTheAnswersCounts) {
  const SquadQuestion two = question("q", {"the red house", "house"});
  EXPECT_EQ(score_answer(two, "House!", false).exact_match, 1);
  EXPECT_DOUBLE_EQ(score_answer(two, "a red", false).f1, 2 * 1 * 0.5 / 1.5);
  EXPECT_EQ(score_answer(two, "blue", false).f1, 0);
}

TEST(SquadMetrics, Version2KnowsNoAnswer) {
  EXPECT_EQ(score_answer(question("q", {}), "", true).f1, 1);
  EXPECT_EQ(score_answer(question("q", {}), "the", true).exact_match, 1);
  EXPECT_EQ(score_answer(question("q", {}), "x", true).f1, 0);
  // An answer without words is not counted, unless there is no other.
  EXPECT_EQ(score_answer(question("q", {"the", "x"}), "", true).exact_match, 0);
  EXPECT_EQ(score_answer(question("q", {"the"}), "", true).exact_match, 1);
  // In version 1.1 it is, and shares no word with itself.
  EXPECT_EQ(score_answer(question("q", {"the"}), "", false).exact_match, 1);
  EXPECT_EQ(score_answer(question("q", {"the"}), "", false).f1, 0);
}

TEST(SquadMetrics, MissingAnswersCountInVersion1Only) {
  SquadFile gold;
  gold.questions = {question("a", {"x"}), question("b", {"y"}), question("c", {})};
  gold.has_no_answers = true;
  const std::map<std::string, std::string> answers{{"a", "x"}, {"c", "z"}, {"d", "w"}};
  SquadScores scores = score_squad(gold, answers);
  EXPECT_EQ(scores.missing, 1);
  EXPECT_EQ(scores.unknown, 1);
  ASSERT_EQ(scores.metrics.size(), 6u);
  EXPECT_EQ(scores.metrics[0].value, 50);
  EXPECT_EQ(scores.metrics[2].name, "has_answer_exact_match");
  EXPECT_EQ(scores.metrics[2].value, 100);
  EXPECT_EQ(scores.metrics[4].value, 0);
  gold.questions.pop_back();
  gold.has_no_answers = false;
  scores = score_squad(gold, answers);
  ASSERT_EQ(scores.metrics.size(), 2u);
  EXPECT_EQ(scores.metrics[0].value, 50);
}

TEST(SquadMetrics, FindsTheBestThreshold) {
  for (const json& wanted : goldens()["thresholds"]) {
    std::vector<AnswerOrNone> answers;
    for (const json& row : wanted["rows"]) {
      AnswerOrNone answer;
      answer.none_score = row[0].get<double>();
      answer.has_answer = row[1].get<bool>();
      answer.score.f1 = row[2].get<double>();
      answers.push_back(answer);
    }
    const BestThreshold found = best_threshold(answers, &AnswerScore::f1);
    EXPECT_NEAR(found.value, wanted["value"].get<double>(), 1e-9);
    EXPECT_NEAR(found.threshold, wanted["threshold"].get<double>(), kExact);
  }
}

TEST(SquadMetrics, ReadsBothFormsOfAnswers) {
  const std::map<std::string, std::string> wanted{{"1", "one"}, {"2", ""}};
  EXPECT_EQ(parse_squad_answers(R"({"1": "one", "2": ""})", "f"), wanted);
  EXPECT_EQ(parse_squad_answers("{\"id\": \"1\", \"text\": \"one\", \"x\": 1}\n\n"
                                "{\"id\": \"2\", \"text\": \"\"}\n",
                                "f"),
            wanted);
  EXPECT_EQ(ERROR_OF(parse_squad_answers(R"({"1": 1})", "f")),
            "2: f: the answer to '1' is not a string");
  EXPECT_EQ(ERROR_OF(parse_squad_answers("{\"id\": \"1\", \"text\": \"\"}\n{\"id\": \"1\"}", "f")),
            "2: f:2: expected an object with 'id' and 'text'");
  EXPECT_EQ(ERROR_OF(parse_squad_answers(
                "{\"id\": \"1\", \"text\": \"\"}\n{\"id\": \"1\", \"text\": \"\"}", "f")),
            "2: f:2: '1' is answered twice");
  EXPECT_EQ(ERROR_OF(parse_squad_answers("[]", "f")),
            "2: f: expected an object of answers by id, or JSON lines");
}

TEST(Truncation, IsThatOfHuggingFace) {
  ASSERT_FALSE(goldens()["truncation"].empty());
  for (const json& wanted : goldens()["truncation"]) {
    const auto numbers = wanted.get<std::vector<std::size_t>>();
    EXPECT_EQ(longest_first(numbers[0], numbers[1], numbers[2]),
              (std::pair{numbers[3], numbers[4]}))
        << wanted;
  }
}

std::vector<std::pair<std::size_t, std::size_t>> windows_of(std::size_t tokens, std::size_t room,
                                                            std::size_t stride) {
  std::vector<std::pair<std::size_t, std::size_t>> windows;
  for (const ContextWindow& window : context_windows(tokens, room, stride)) {
    windows.emplace_back(window.first, window.count);
  }
  return windows;
}

TEST(AnswerSearch, WindowsCoverTheContext) {
  using Windows = std::vector<std::pair<std::size_t, std::size_t>>;
  EXPECT_EQ(windows_of(10, 10, 3), (Windows{{0, 10}}));
  EXPECT_EQ(windows_of(11, 10, 3), (Windows{{0, 10}, {3, 8}}));
  EXPECT_EQ(windows_of(10, 4, 3), (Windows{{0, 4}, {3, 4}, {6, 4}}));
  EXPECT_EQ(windows_of(9, 4, 100), (Windows{{0, 4}, {4, 4}, {8, 1}}));  // no token left out
  EXPECT_EQ(windows_of(0, 4, 2), (Windows{{0, 0}}));
}

// Tokens 0-3 in window 0, 2-5 in window 1, 4-7 in window 2.
TEST(AnswerSearch, ATokenIsJudgedWhereItHasMostContext) {
  const auto windows = context_windows(8, 4, 2);
  EXPECT_EQ(window_with_most_context(windows, 8),
            (std::vector<std::size_t>{0, 0, 0, 1, 1, 2, 2, 2}));
  std::vector<float> start(4, 0), high(4, 0), end(4, 0);
  high[3] = 9;  // token 3 at the edge of window 0: not believed there
  end[3] = 1;
  const std::vector<WindowLogits> logits{{high, end}, {start, end}, {start, end}};
  const auto best = best_answers(windows, logits, 8, 3);
  ASSERT_EQ(best.size(), 3u);
  EXPECT_EQ(best[0].score, 1);  // not 10
}

TEST(AnswerSearch, TheBestSpanIsFoundWithinItsLength) {
  const auto windows = context_windows(5, 8, 8);
  const std::vector<float> start{1, 5, 0, 0, 2}, end{9, 0, 1, 3, 2};
  const std::vector<WindowLogits> logits{{start, end}};
  const auto best = best_answers(windows, logits, 2, 4);
  const std::vector<std::tuple<std::size_t, std::size_t, double>> wanted{
      {0, 0, 10}, {1, 2, 6}, {1, 1, 5}, {4, 4, 4}};  // (1, 3) would be 8, and is too long
  ASSERT_EQ(best.size(), wanted.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_EQ(std::tuple(best[i].first, best[i].last, best[i].score), wanted[i]) << i;
  }
  EXPECT_EQ(best_answers(windows, logits, 3, 1).front().last, 0u);
  EXPECT_EQ(best_answers(windows, logits, 3, 2)[1].last, 3u);
}

}  // namespace
}  // namespace bert
