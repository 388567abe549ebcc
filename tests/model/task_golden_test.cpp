// Models with the heads of tasks against Hugging Face's, computed in float64
// (tests/reference/README.md): logits, loss and every gradient.
#include <algorithm>
#include <iterator>

#include <gtest/gtest.h>

#include "tests/model/golden.h"

namespace bert::test {
namespace {

const std::vector<std::string> kGoldens = {
    "sequence_labels", "sequence_labels_pre_weighted", "sequence_values",
    "word_labels",     "word_labels_pre_weighted",     "answers",
    "answers_pre"};

std::unique_ptr<BertModel> make_model_of(const Golden& golden) {
  const HostBatch& batch = golden.batch();
  const TaskKind kind = !batch.answer_spans.empty()      ? TaskKind::question_answering
                        : !batch.sequence_values.empty() ? TaskKind::regression
                        : !batch.masked_rows.empty()     ? TaskKind::token_classification
                                                         : TaskKind::classification;
  return std::make_unique<BertForTask>(golden.config(), kind, golden.head().labels,
                                       !batch.loss_weights.empty());
}

std::int64_t known(const std::vector<double>& targets) {
  return std::ssize(targets) - std::count(targets.begin(), targets.end(), kIgnoreIndex);
}

class TaskGolden : public ::testing::TestWithParam<GoldenOnBackend> {
 protected:
  TaskGolden()
      : golden_("tasks/" + GetParam().golden),
        tolerance_(golden_tolerance(*GetParam().backend.make().ops)) {}

  std::unique_ptr<ModelRun> make_run(const Capacity& capacity) const {
    auto run =
        std::make_unique<ModelRun>(make_model_of(golden_), GetParam().backend.make, capacity);
    load_parameters(golden_.file(), run->model().parameters());
    return run;
  }
  void expect_all(const ModelResults& results) const {
    expect_near("logits", results.logits, golden_.reals("logits"), tolerance_);
    if (golden_.file().find("pooled")) {
      expect_near("pooled", results.pooled, golden_.reals("pooled"), tolerance_);
    }
    expect_sums(results);
  }
  void expect_sums(const ModelResults& results) const {
    const HostBatch& batch = golden_.batch();
    const double loss = golden_.reals("loss")[0];
    EXPECT_NEAR(results.loss, loss, tolerance_ * loss);
    EXPECT_EQ(results.main.count, known(batch.sequence_labels) + known(batch.sequence_values) +
                                      known(batch.masked_targets) + known(batch.answer_spans));
    expect_gradients(results, golden_, tolerance_);
  }

  const Golden golden_;
  const double tolerance_;
};

TEST_P(TaskGolden, ComputesWhatHuggingFaceComputes) {
  const HostBatch& batch = golden_.batch();
  expect_all(make_run(batch.exact_capacity())->step({batch}, {}));
}

TEST_P(TaskGolden, IgnoresRowsPastTheCounts) {
  const HostBatch& batch = golden_.batch();
  const Capacity capacity{batch.num_tokens() + 13, batch.num_sequences() + 3,
                          batch.num_masked() + 5, batch.max_seqlen()};
  const std::unique_ptr<ModelRun> run = make_run(capacity);
  // Twice: the second finds in the tail rows what the first left there.
  for (int i = 0; i < 2; ++i) expect_all(run->step({batch}, {}));
}

TEST_P(TaskGolden, SumsMicroBatchesToTheSameGradients) {
  const HostBatch& batch = golden_.batch();
  expect_sums(make_run(batch.exact_capacity())
                  ->step({batch.part(0, 2), batch.part(2, batch.num_sequences())}, {}));
}

TEST_P(TaskGolden, HasHuggingFacesParameters) {
  expect_hugging_faces_parameters(*make_model_of(golden_), golden_);
}

// What is told of the head is what Hugging Face's config.json says of it.
TEST_P(TaskGolden, DescribesItsHeadAsHuggingFace) {
  const HeadDescription theirs = golden_.head(), ours = make_model_of(golden_)->head_description();
  EXPECT_EQ(ours.architecture, theirs.architecture);
  // Theirs has two made-up labels where an answer's beginning and end are the outputs.
  if (ours.architecture != "ForQuestionAnswering") {
    EXPECT_EQ(ours.labels, theirs.labels);
  }
  EXPECT_EQ(ours.regression, theirs.regression);
}

INSTANTIATE_TEST_SUITE_P(All, TaskGolden, ::testing::ValuesIn(on_all_backends(kGoldens)),
                         [](const auto& param_info) {
                           return param_info.param.golden + "_on_" + param_info.param.backend.name;
                         });

TEST(TaskGoldens, AreAllTested) { EXPECT_EQ(count_goldens("tasks"), kGoldens.size()); }

}  // namespace
}  // namespace bert::test
