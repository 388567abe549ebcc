// Tasks: from files to sequences, from outputs to metrics and predictions.
#include "train/tasks/task.h"

#include <cmath>

#include "tests/train/task_fixture.h"

namespace bert {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

TaskOptions of(TaskKind kind, std::int64_t max_length = 16) {
  TaskOptions options;
  options.kind = kind;
  options.max_length = max_length;
  options.max_query_length = 4;
  options.doc_stride = 2;
  return options;
}

TEST_F(TaskTest, ClassificationOfPairs) {
  const std::string file = put("pairs.tsv",
                               "sentence1\tsentence2\tlabel\n"
                               "ab c\td\tyes\n"
                               "a\tabcdefgh ab\tno\n");
  const auto task = make_task(of(TaskKind::classification, 8), file);
  EXPECT_EQ(task->labels(), (Strings{"no", "yes"}));
  EXPECT_EQ(task->num_outputs(), 2);
  const auto dataset = task->read(file, tokenizer(), Purpose::training);
  ASSERT_EQ(dataset->sequences().size(), 2u);
  const TaskSequence& first = dataset->sequences()[0];
  EXPECT_EQ(pieces(first), "[CLS] a ##b c [SEP] d [SEP]");
  EXPECT_EQ(first.token_type_ids, (std::vector<std::int32_t>{0, 0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(first.label, 1);
  const TaskSequence& second = dataset->sequences()[1];
  EXPECT_EQ(pieces(second), "[CLS] a [SEP] a ##b ##c ##d [SEP]");
  EXPECT_EQ(second.label, 0);
  EXPECT_EQ(second.example, 1);
  EXPECT_EQ(dataset->report().lines(),
            Strings{"1 cut: long text (" + file + ":3: 5 of 11 tokens are kept)"});

  const TaskOutputs outputs{{1, 2}, {0, 3}};
  const auto metrics = dataset->metrics(outputs);
  EXPECT_EQ(names(metrics), task->metric_names());
  EXPECT_EQ(value(metrics, "accuracy"), 0.5);
  EXPECT_DOUBLE_EQ(value(metrics, "f1"), 2.0 / 3);  // of "yes"
  const auto written = predictions(*dataset, outputs);
  EXPECT_EQ(written[1]["line"], 3);
  EXPECT_EQ(written[1]["label"], "yes");
  EXPECT_NEAR(written[1]["probabilities"]["no"].get<double>(), 1 / (1 + std::exp(3.0)), 1e-6);
}

TEST_F(TaskTest, LabelsAreOrderedByNumberIfTheyAreNumbers) {
  EXPECT_EQ(make_task({}, put("numbers.tsv", "a\t10\nb\t9\nc\t-1\n"))->labels(),
            (Strings{"-1", "9", "10"}));
  EXPECT_EQ(make_task({}, put("texts.tsv", "a\t10\nb\t9\nc\tx\n"))->labels(),
            (Strings{"10", "9", "x"}));
  TaskOptions given;
  given.labels = {"x", "10", "9"};
  EXPECT_EQ(make_task(given, "no such file")->labels(), given.labels);
}

TEST_F(TaskTest, ThreeClassesHaveNoPositiveOne) {
  const std::string file = put("three.tsv", "a\tx\nb\ty\nc\tz\n");
  const auto task = make_task({}, file);
  EXPECT_EQ(task->metric_names(), (Strings{"accuracy", "macro_f1", "matthews"}));
  const auto dataset = task->read(file, tokenizer(), Purpose::evaluation);
  const auto metrics = dataset->metrics({{1, 0, 0}, {0, 1, 0}, {0, 1, 0}});
  EXPECT_EQ(names(metrics), task->metric_names());
  EXPECT_DOUBLE_EQ(value(metrics, "macro_f1"), (1 + 2.0 / 3 + 0) / 3);
}

TEST_F(TaskTest, UnknownLabelsAreBad) {
  const auto task = make_task({}, put("known.tsv", "a\t0\nb\t1\n"));
  const std::string file = put("unknown.tsv", "sentence\tlabel\na\t0\nb\t2\n");
  EXPECT_EQ(
      ERROR_OF(task->read(file, tokenizer(), Purpose::evaluation)),
      "2: " + file +
          ":3: '2' is none of the labels: 0, 1 (unknown label; what cannot be used is left out "
          "and counted by --skip-bad-rows, in finetune by data.bad_rows=skip)");
  // What lies behind the examples that are asked for is not looked at.
  EXPECT_EQ(task->read(file, tokenizer(), Purpose::training, 1)->num_examples(), 1);
  TaskOptions skipping = task->options();
  skipping.bad_rows = BadRows::skip;
  const auto dataset = make_task(skipping)->read(file, tokenizer(), Purpose::evaluation);
  EXPECT_EQ(dataset->num_examples(), 1);
  EXPECT_EQ(dataset->report().count(InputReport::Effect::left_out), 1u);
  // Without labels there is nothing wrong with it.
  const auto predicted = task->read(file, tokenizer(), Purpose::prediction);
  EXPECT_EQ(predicted->num_examples(), 2);
  EXPECT_EQ(predicted->sequences()[0].label, kIgnoreIndex);
  // Nothing is left.
  const std::string none = put("none.tsv", "a\t7\n");
  EXPECT_EQ(ERROR_OF(make_task(skipping)->read(none, tokenizer(), Purpose::evaluation)),
            "2: " + none + ": holds nothing that can be used: 1 left out: unknown label (" + none +
                ":1: '7' is none of the labels: 0, 1)");
}

TEST_F(TaskTest, WhatTheTokenizerDropsIsSaid) {
  const std::string file =
      put("odd.tsv", "sentence\tlabel\n" + std::string(101, 'q') + " a\t0\n\xe2\x80\x8b\t1\n");
  const auto dataset = make_task({}, file)->read(file, tokenizer(), Purpose::training);
  EXPECT_EQ(pieces(dataset->sequences()[0]), "[CLS] [UNK] a [SEP]");
  EXPECT_EQ(pieces(dataset->sequences()[1]), "[CLS] [SEP]");
  EXPECT_EQ(dataset->report().lines(),
            (Strings{"1 unusual, used as it is: over-long word (" + file +
                         ":2: a word of 101 characters is unknown to the model)",
                     "1 unusual, used as it is: no tokens (" + file +
                         ":3: has a text of which the tokenizer leaves none)"}));
}

TEST_F(TaskTest, Regression) {
  const std::string file = put("values.csv", "text,score\n\"a, b\",1.5\nc,-2\nd,1e1\n");
  const auto task = make_task(of(TaskKind::regression), file);
  EXPECT_EQ(task->num_outputs(), 1);
  const auto dataset = task->read(file, tokenizer(), Purpose::training);
  EXPECT_EQ(dataset->sequences()[0].value, 1.5f);
  EXPECT_EQ(dataset->sequences()[2].value, 10.0f);
  const auto metrics = dataset->metrics({{1}, {0}, {2}});
  EXPECT_EQ(names(metrics), (Strings{"pearson", "spearman", "mean_squared_error"}));
  EXPECT_DOUBLE_EQ(value(metrics, "spearman"), 1);
  EXPECT_EQ(predictions(*dataset, {{0.25}, {0}, {2}})[0], (json{{"line", 2}, {"value", 0.25}}));
  const std::string bad = put("bad_values.csv", "text,score\nx,nan\n");
  EXPECT_EQ(ERROR_OF(task->read(bad, tokenizer(), Purpose::training))
                .rfind("2: " + bad + ":2: 'nan' is not a number", 0),
            0u);
}

TEST_F(TaskTest, WordsHaveTheLabelAtTheirFirstPiece) {
  const std::string file = put("words.conll", "abc B-x\nd O\n\ne I-x\n");
  const auto task = make_task(of(TaskKind::token_classification), file);
  EXPECT_EQ(task->labels(), (Strings{"B-x", "I-x", "O"}));
  const auto dataset = task->read(file, tokenizer(), Purpose::training);
  ASSERT_EQ(dataset->sequences().size(), 2u);
  EXPECT_EQ(pieces(dataset->sequences()[0]), "[CLS] a ##b ##c d [SEP]");
  EXPECT_EQ(dataset->sequences()[0].rows, (std::vector<std::int32_t>{1, 4}));
  EXPECT_EQ(dataset->sequences()[0].row_labels, (std::vector<std::int32_t>{0, 2}));
  EXPECT_EQ(dataset->report().lines(),
            Strings{"1 unusual, used as it is: entity without a beginning (" + file +
                    ":4: I-x begins an entity)"});

  const TaskOutputs outputs{{0, 0, 1, 0, 1, 0}, {0, 1, 0}};  // O I-x; I-x
  const auto metrics = dataset->metrics(outputs);
  EXPECT_EQ(names(metrics),
            (Strings{"f1", "precision", "recall", "accuracy", "f1_x", "precision_x", "recall_x"}));
  EXPECT_EQ(value(metrics, "f1"), 0.5);
  EXPECT_DOUBLE_EQ(value(metrics, "accuracy"), 1.0 / 3);
  const auto written = predictions(*dataset, outputs);
  EXPECT_EQ(written[0]["tags"], (json{"O", "I-x"}));
  EXPECT_EQ(written[0]["entities"],
            json::parse(R"([{"type": "x", "start": 1, "end": 2, "text": "d"}])"));
  EXPECT_EQ(written[1]["line"], 4);
}

TEST_F(TaskTest, LongSentencesAreReadInParts) {
  const std::string file = put("long.conll",
                               "ab B-x\ncdefgh I-x\n\u200b O\ni O\njk B-x\n\n"
                               "l O\n");
  const auto task = make_task(of(TaskKind::token_classification, 6), file);
  const auto dataset = task->read(file, tokenizer(), Purpose::evaluation);
  const std::vector<TaskSequence>& parts = dataset->sequences();
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(pieces(parts[0]), "[CLS] a ##b [SEP]");
  EXPECT_EQ(pieces(parts[1]), "[CLS] c ##d ##e ##f [SEP]");  // the word is cut, not left out
  EXPECT_EQ(pieces(parts[2]), "[CLS] [UNK] i j ##k [SEP]");
  EXPECT_EQ(parts[2].rows, (std::vector<std::int32_t>{1, 2, 3}));
  EXPECT_EQ(parts[2].example, 0);
  EXPECT_EQ(parts[3].example, 1);
  EXPECT_EQ(dataset->num_examples(), 2);
  EXPECT_EQ(dataset->report().findings().size(), 3u);
  // B-x, I-x, O: the entity goes on from one part to the next.
  const TaskOutputs outputs{{1, 0, 0}, {0, 1, 0}, {0, 0, 1, 0, 0, 1, 1, 0, 0}, {0, 0, 1}};
  EXPECT_EQ(value(dataset->metrics(outputs), "f1"), 1);
  EXPECT_EQ(predictions(*dataset, outputs)[0]["entities"][0]["text"], "ab cdefgh");
}

TEST_F(TaskTest, TagsAreTranslated) {
  const std::string file = put("iob1.conll", "a I-x\nb I-x\nc B-x\nd I-y\ne O\n");
  TaskOptions options = of(TaskKind::token_classification);
  EXPECT_EQ(make_task(options, file)->labels(), (Strings{"B-x", "B-y", "I-x", "I-y", "O"}));
  options.scheme = TagScheme::iobes;
  options.labels = {"O", "B-x", "I-x", "E-x", "S-x", "S-y"};
  const auto dataset = make_task(options)->read(file, tokenizer(), Purpose::training);
  EXPECT_EQ(dataset->sequences()[0].row_labels, (std::vector<std::int32_t>{1, 3, 4, 5, 0}));
  EXPECT_EQ(ERROR_OF(make_task(options)->read(put("pos.conll", "a B-x\nb NN\n"), tokenizer(),
                                              Purpose::training))
                    .find("pos.conll:2: 'NN' cannot be translated") != std::string::npos,
            true);
}

TEST_F(TaskTest, PlainTagsHaveNoEntities) {
  const std::string file = put("pos.conll", "a NN\nb VB\n");
  const auto task = make_task(of(TaskKind::token_classification), file);
  EXPECT_EQ(task->metric_names(), (Strings{"accuracy", "macro_f1"}));
  const auto dataset = task->read(file, tokenizer(), Purpose::evaluation);
  const TaskOutputs outputs{{1, 0, 1, 0}};
  EXPECT_EQ(names(dataset->metrics(outputs)), task->metric_names());
  EXPECT_FALSE(predictions(*dataset, outputs)[0].contains("entities"));
}

// "a b c d e f" and "é中 g"; the second question has no answer.
std::string questions() {
  return R"({"data": [{"paragraphs": [
    {"context": "a b c d e f", "qas": [
      {"id": "1", "question": "abcdef", "is_impossible": false,
       "answers": [{"text": "c d", "answer_start": 4}, {"text": "d", "answer_start": 6}]},
      {"id": "2", "question": "x", "is_impossible": true, "answers": []}]},
    {"context": "\u00e9\u4e2d g", "qas": [
      {"id": "3", "question": "x", "is_impossible": false,
       "answers": [{"text": "g", "answer_start": 3}]}]}]}]})";
}

TEST_F(TaskTest, QuestionsAreReadInWindows) {
  const std::string file = put("squad.json", questions());
  const auto task = make_task(of(TaskKind::question_answering, 11), file);
  EXPECT_TRUE(task->options().allow_no_answer);
  EXPECT_EQ(task->num_outputs(), 2);
  const auto dataset = task->read(file, tokenizer(), Purpose::training);
  const std::vector<TaskSequence>& windows = dataset->sequences();
  ASSERT_EQ(windows.size(), 4u);
  EXPECT_EQ(pieces(windows[0]), "[CLS] a ##b ##c ##d [SEP] a b c d [SEP]");
  EXPECT_EQ(windows[0].start, 8);
  EXPECT_EQ(windows[0].end, 9);
  EXPECT_EQ(pieces(windows[1]), "[CLS] a ##b ##c ##d [SEP] c d e f [SEP]");
  EXPECT_EQ(windows[1].start, 6);
  EXPECT_EQ(windows[1].token_type_ids.back(), 1);
  EXPECT_EQ(pieces(windows[2]), "[CLS] x [SEP] a b c d e f [SEP]");
  EXPECT_EQ(windows[2].start, 0);
  EXPECT_EQ(windows[2].end, 0);
  EXPECT_EQ(pieces(windows[3]), "[CLS] x [SEP] e \u4e2d g [SEP]");
  EXPECT_EQ(windows[3].start, 5);
  EXPECT_EQ(windows[3].example, 2);
  EXPECT_EQ(dataset->report().lines(),
            Strings{"1 cut: long question (" + file + ": 1: 4 of 6 tokens are kept)"});
}

// Points at tokens of each sequence with a logit of `score`.
TaskOutputs pointing(const TaskDataset& dataset,
                     const std::vector<std::tuple<int, int, float>>& spans) {
  TaskOutputs outputs;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::size_t length = dataset.sequences()[i].input_ids.size();
    const auto [start, end, score] = spans[i];
    std::vector<float>& logits = outputs.emplace_back(2 * length, -9.0f);
    logits[0] = logits[length] = 0;  // [CLS]: no answer has the score 0
    logits[static_cast<std::size_t>(start)] = score;
    logits[length + static_cast<std::size_t>(end)] = score;
  }
  return outputs;
}

TEST_F(TaskTest, TheBestAnswerIsFoundAndScored) {
  const std::string file = put("squad.json", questions());
  const auto task = make_task(of(TaskKind::question_answering, 11), file);
  const auto dataset = task->read(file, tokenizer(), Purpose::evaluation);
  // "d" at the edge of the first window (has more context in the second: there "e"), nothing, "g".
  TaskOutputs outputs = pointing(*dataset, {{9, 9, 4}, {7, 8, 1}, {3, 4, -1}, {5, 5, 2}});
  outputs[0][0] = -1;  // of the windows' scores of no answer the least counts
  const auto written = predictions(*dataset, outputs);
  ASSERT_EQ(written.size(), 3u);
  EXPECT_EQ(written[0]["id"], "1");
  EXPECT_EQ(written[0]["text"], "d e");
  EXPECT_EQ(written[0]["start"], 6);
  EXPECT_EQ(written[0]["end"], 9);
  EXPECT_EQ(written[0]["score"], 2);
  EXPECT_EQ(written[0]["null_score"], -1);
  EXPECT_EQ(written[0]["n_best"][1]["text"], "");
  EXPECT_EQ(written[1]["text"], "");
  EXPECT_EQ(written[1]["n_best"][1]["text"], "a b");
  EXPECT_EQ(written[2]["text"], "g");
  EXPECT_EQ(written[2]["start"], 3);  // code points, not bytes
  const auto metrics = dataset->metrics(outputs);
  EXPECT_EQ(names(metrics),
            (Strings{"exact_match", "f1", "has_answer_exact_match", "has_answer_f1",
                     "no_answer_exact_match", "no_answer_f1", "best_exact_match",
                     "best_exact_match_threshold", "best_f1", "best_f1_threshold"}));
  EXPECT_DOUBLE_EQ(value(metrics, "exact_match"), 200.0 / 3);
  EXPECT_DOUBLE_EQ(value(metrics, "f1"), 100 * (2.0 / 3 + 1 + 1) / 3);
  EXPECT_EQ(value(metrics, "no_answer_f1"), 100);
  EXPECT_DOUBLE_EQ(value(metrics, "best_f1"), value(metrics, "f1"));
  EXPECT_EQ(value(metrics, "best_f1_threshold"), -3);

  TaskOptions eager = task->options();
  eager.null_threshold = 2;  // the second question is answered too: 0 - (-2) is not above
  const auto answered = make_task(eager)->read(file, tokenizer(), Purpose::evaluation);
  EXPECT_EQ(predictions(*answered, outputs)[1]["text"], "a b");
  EXPECT_EQ(value(answered->metrics(outputs), "no_answer_f1"), 0);
}

TEST_F(TaskTest, AnswersThatCannotBeLearnt) {
  const std::string file =
      put("hard.json",
          R"({"data": [{"paragraphs": [{"context": "abc d e f g h \u200b", "qas": [
        {"id": "1", "question": "x", "answers": [{"text": "bc", "answer_start": 1}]},
        {"id": "2", "question": "x", "answers": [{"text": "abc d e f g h", "answer_start": 0}]},
        {"id": "3", "question": "x", "answers": [{"text": "\u200b", "answer_start": 14}]},
        {"id": "4", "question": "x", "answers": [{"text": "b d", "answer_start": 1}]}]}]}]})");
  TaskOptions options = of(TaskKind::question_answering, 9);
  options.bad_rows = BadRows::skip;
  const auto task = make_task(options, file);
  EXPECT_FALSE(task->options().allow_no_answer);
  const auto dataset = task->read(file, tokenizer(), Purpose::training);
  EXPECT_EQ(dataset->num_examples(), 2);
  EXPECT_EQ(dataset->report().lines(),
            (Strings{"1 left out: answer not in its place (" + file +
                         ": 4: 'b d' is not in the context at answer_start)",
                     "1 unusual, used as it is: answer in no window (" + file +
                         ": 2: no window holds all of an answer of 8 tokens)",
                     "1 left out: answer without tokens (" + file +
                         ": 3: the tokenizer leaves nothing of the answer)"}));
  EXPECT_EQ(task->read(file, tokenizer(), Purpose::evaluation)->num_examples(), 4);
  EXPECT_EQ(task->read(file, tokenizer(), Purpose::prediction)->num_examples(), 4);
  // Where no answer is not an answer, the best one is given however bad it is.
  const auto asked = task->read(put("ask.json", R"({"data": [{"paragraphs": [{"context": "a b",
      "qas": [{"id": "1", "question": "x"}]}]}]})"),
                                tokenizer(), Purpose::prediction);
  EXPECT_EQ(predictions(*asked, pointing(*asked, {{4, 4, -5}}))[0]["text"], "b");
}

TEST_F(TaskTest, OutputsMustBeFinite) {
  const std::string file = put("two.tsv", "a\t0\nb\t1\n");
  const auto dataset = make_task({}, file)->read(file, tokenizer(), Purpose::evaluation);
  EXPECT_EQ(ERROR_OF(dataset->metrics({{0, 1}, {0, NAN}})),
            "1: the model's outputs for sequence 2 of 2 are not finite");
  EXPECT_NE(ERROR_OF(dataset->metrics({{0, 1}})), "");
  EXPECT_NE(ERROR_OF(dataset->metrics({{0, 1}, {0, 1, 2}})), "");
}

TEST_F(TaskTest, OptionsComeBackFromJson) {
  TaskOptions options = of(TaskKind::token_classification, 99);
  options.labels = {"O", "B-\u00e9"};
  options.bad_rows = BadRows::skip;
  options.table = {TableFormat::csv, "t", "p", "3", true};
  options.token_column = 2;
  options.tag_column = -2;
  options.scheme = TagScheme::iob2;
  options.max_answer_length = 7;
  options.n_best = 3;
  options.allow_no_answer = true;
  options.null_threshold = -1.25;
  const std::string text = make_task(options)->to_json();
  const auto again = task_from_json(text, "task.json");
  EXPECT_EQ(again->to_json(), text);
  EXPECT_EQ(again->labels(), options.labels);
  EXPECT_EQ(again->options().null_threshold, -1.25);
  EXPECT_EQ(again->options().table.header, true);
  EXPECT_EQ(again->options().scheme, TagScheme::iob2);

  json changed = json::parse(text);
  const auto error = [&](const char* key, const json& value) {
    json other = changed;
    other[key] = value;
    return ERROR_OF(task_from_json(other.dump(), "task.json"));
  };
  EXPECT_EQ(error("max_len", 1), "2: task.json: unknown key 'max_len'");
  EXPECT_EQ(error("max_length", "x"), "2: task.json: max_length is \"x\": expected an integer");
  EXPECT_EQ(error("max_length", 4), "2: task.json: max_length is 4: expected 5 to 1048576");
  EXPECT_EQ(error("labels", {"a", 1}), "2: task.json: 'labels' is not a string");
  EXPECT_EQ(error("labels", {"a", "a"}), "2: task.json: labels: 'a' is given twice");
  EXPECT_EQ(error("labels", {"a"}),
            "2: task.json: labels: 1 given, token_classification needs at least two");
  EXPECT_EQ(error("scheme", "bilou"),
            "2: task.json: 'bilou' is no scheme of tags: expected auto, iob1, iob2 or iobes");
  EXPECT_EQ(error("tag_column", 0),
            "2: task.json: tag_column is 0: columns count from 1, or from the last: -1");
  EXPECT_EQ(error("kind", "x").rfind("2: task.json: 'x' is no task: expected classification", 0),
            0u);
  changed.erase("n_best");
  EXPECT_EQ(error("n", 1), "2: task.json: 'n_best' is missing");
}

TEST_F(TaskTest, OptionsAreChecked) {
  TaskOptions options = of(TaskKind::question_answering);
  options.max_query_length = 13;
  EXPECT_EQ(ERROR_OF(make_task(options)), "2: max_query_length is 13: expected 1 to 12");
  options = of(TaskKind::question_answering);
  options.null_threshold = INFINITY;
  EXPECT_EQ(ERROR_OF(make_task(options)), "2: null_threshold is inf: expected a finite number");
  EXPECT_EQ(
      ERROR_OF(make_task({}, put("one.tsv", "a\tx\nb\tx\n"))),
      "2: " + ::testing::TempDir() + "/task_one.tsv: has only the label x, expected at least two");
  std::string many;
  for (int i = 0; i < 1001; ++i) many += fmt::format("a\t{}\n", i);
  EXPECT_NE(ERROR_OF(make_task({}, put("many.tsv", many))).find("is it the right column?"),
            std::string::npos);
}

TEST_F(TaskTest, MetricsAreChosenByName) {
  TaskOptions options;
  options.labels = {"0", "1"};
  const auto task = make_task(options);
  EXPECT_EQ(choose_metric(*task, ""), "accuracy");
  EXPECT_EQ(choose_metric(*task, "matthews"), "matthews");
  EXPECT_EQ(ERROR_OF(choose_metric(*task, "mcc")),
            "2: 'mcc' is no metric of this classification task: expected accuracy, f1, macro_f1, "
            "matthews");
}

}  // namespace
}  // namespace bert
