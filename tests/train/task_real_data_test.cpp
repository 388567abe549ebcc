// The tasks on public data sets: nothing of them is refused or lost, and the scores of published
// answers are the published ones.
#include <cmath>
#include <set>

#include "data/text/read_input.h"
#include "tests/train/task_fixture.h"
#include "train/tasks/squad_metrics.h"

namespace bert {
namespace {

class TaskRealDataTest : public TaskTest {
 protected:
  void SetUp() override {
    const auto vocab = shared_data("vocab/bert-base-uncased-vocab.txt");
    if (!vocab) GTEST_SKIP() << "no shared test data (BERT_TEST_DATA)";
    bert_ = load_tokenizer(*vocab);
  }

  static std::string file(std::string_view name) {
    const auto found = shared_data(name);
    if (!found) throw_input_error("{} is missing in the shared test data", name);
    return found->string();
  }

  static std::int64_t with_label(const TaskDataset& dataset, std::int32_t label) {
    std::int64_t count = 0;
    for (const TaskSequence& sequence : dataset.sequences()) count += sequence.label == label;
    return count;
  }

  std::unique_ptr<Tokenizer> bert_;
};

TEST_F(TaskRealDataTest, Sst2) {
  const auto task = make_task({}, file("glue/SST-2/train.tsv"));
  EXPECT_EQ(task->labels(), (std::vector<std::string>{"0", "1"}));
  const auto training = task->read(file("glue/SST-2/train.tsv"), *bert_, Purpose::training);
  EXPECT_EQ(training->num_examples(), 67349);
  EXPECT_EQ(with_label(*training, 0), 29780);
  const auto dev = task->read(file("glue/SST-2/dev.tsv"), *bert_, Purpose::evaluation);
  EXPECT_EQ(dev->num_examples(), 872);
  EXPECT_EQ(with_label(*dev, 1), 444);
  EXPECT_EQ(dev->report().findings().size(), 0u);
}

TEST_F(TaskRealDataTest, ColaHasNoHeader) {
  TaskOptions options;
  options.table.text_column = "4";
  options.table.label_column = "2";
  const auto task = make_task(options, file("glue/CoLA/train.tsv"));
  const auto training = task->read(file("glue/CoLA/train.tsv"), *bert_, Purpose::training);
  EXPECT_EQ(training->num_examples(), 8551);
  EXPECT_EQ(task->read(file("glue/CoLA/dev.tsv"), *bert_, Purpose::prediction)->num_examples(),
            1043);
}

TEST_F(TaskRealDataTest, RteHasPairs) {
  const auto task = make_task({}, file("glue/RTE/train.tsv"));
  EXPECT_EQ(task->labels(), (std::vector<std::string>{"entailment", "not_entailment"}));
  const auto dev = task->read(file("glue/RTE/dev.tsv"), *bert_, Purpose::evaluation);
  EXPECT_EQ(dev->num_examples(), 277);
  for (const TaskSequence& sequence : dev->sequences()) {
    EXPECT_LE(sequence.input_ids.size(), 128u);
    EXPECT_EQ(std::set(sequence.token_type_ids.begin(), sequence.token_type_ids.end()).size(), 2u);
  }
}

TEST_F(TaskRealDataTest, AgNews) {
  const auto task = make_task({}, file("agnews/train.tsv"));
  EXPECT_EQ(task->labels(), (std::vector<std::string>{"Business", "Sci/Tech", "Sports", "World"}));
  const auto test = task->read(file("agnews/test.tsv"), *bert_, Purpose::evaluation);
  EXPECT_EQ(test->num_examples(), 7600);
  for (std::int32_t label = 0; label < 4; ++label) EXPECT_EQ(with_label(*test, label), 1900);
}

TEST_F(TaskRealDataTest, Wnut17) {
  TaskOptions options;
  options.kind = TaskKind::token_classification;
  const auto task = make_task(options, file("wnut17/train.conll"));
  EXPECT_EQ(task->num_outputs(), 13);
  const std::tuple<const char*, std::int64_t, std::size_t> sizes[] = {
      {"wnut17/train.conll", 3394, 62730},
      {"wnut17/dev.conll", 1009, 15733},
      {"wnut17/test.conll", 1287, 23394}};
  for (const auto& [name, sentences, words] : sizes) {
    const auto dataset = task->read(file(name), *bert_, Purpose::evaluation);
    EXPECT_EQ(dataset->num_examples(), sentences) << name;
    std::size_t rows = 0;
    TaskOutputs right;
    for (const TaskSequence& sequence : dataset->sequences()) {
      rows += sequence.rows.size();
      auto& logits = right.emplace_back(sequence.rows.size() * 13, 0.0f);
      for (std::size_t row = 0; row < sequence.rows.size(); ++row) {
        logits[row * 13 + static_cast<std::size_t>(sequence.row_labels[row])] = 1;
      }
    }
    EXPECT_EQ(rows, words) << name;
    EXPECT_EQ(value(dataset->metrics(right), "f1"), 1) << name;
    EXPECT_EQ(value(dataset->metrics(right), "f1_creative-work"), 1) << name;
  }
}

// Logits that point at the gold answer: what is found is the answer, but where its ends lie within
// a token.
void expect_gold_is_found(const std::string& name, const Tokenizer& tokenizer,
                          std::int64_t questions, double least_f1) {
  TaskOptions options;
  options.kind = TaskKind::question_answering;
  options.max_length = 384;
  options.max_answer_length = 100;
  const auto task = make_task(options, name);
  const auto dataset = task->read(name, tokenizer, Purpose::training);
  EXPECT_EQ(dataset->num_examples(), questions);
  TaskOutputs outputs;
  for (const TaskSequence& sequence : dataset->sequences()) {
    const std::size_t length = sequence.input_ids.size();
    auto& logits = outputs.emplace_back(2 * length, 0.0f);
    if (task->options().allow_no_answer || sequence.start > 0) {
      logits[static_cast<std::size_t>(sequence.start)] = 5;
      logits[length + static_cast<std::size_t>(sequence.end)] = 5;
    }
  }
  const std::vector<Metric> metrics = dataset->metrics(outputs);
  for (const Metric& metric : metrics) {
    if (metric.name.ends_with("threshold")) continue;
    EXPECT_GE(metric.value, least_f1) << name << " " << metric.name;
  }
}

TEST_F(TaskRealDataTest, SquadAnswersAreInTheirTokens) {
  expect_gold_is_found(file("squad/dev-v1.1.json"), *bert_, 10570, 99);
  expect_gold_is_found(file("squad/dev-v2.0.json"), *bert_, 11873, 99);
  expect_gold_is_found(file("squad/train-v1.1-subset.json"), *bert_, 11877, 99);
}

TEST_F(TaskRealDataTest, SquadScoresAreThePublishedOnes) {
  const auto expected =
      nlohmann::json::parse(read_input(file("squad/predictions/expected_scores.json")));
  ASSERT_EQ(expected.size(), 2u);
  for (const auto& [name, scores] : expected.items()) {
    InputReport report;
    const SquadScores found = score_squad_files(file("squad/" + scores["gold"].get<std::string>()),
                                                file("squad/predictions/" + name), report);
    EXPECT_NEAR(value(found.metrics, "exact_match"), scores["exact_match"].get<double>(), 1e-9);
    EXPECT_NEAR(value(found.metrics, "f1"), scores["f1"].get<double>(), 1e-9);
    EXPECT_EQ(found.questions, scores["total"].get<int>());
    EXPECT_EQ(found.missing, scores["missing"].get<int>());
  }
}

}  // namespace
}  // namespace bert
