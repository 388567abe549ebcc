// The whole model against Hugging Face's, computed in float64 (tests/reference/README.md): hidden
// states, logits, losses and every gradient.
#include "tests/model/golden.h"

#include <gtest/gtest.h>

namespace bert::test {
namespace {

const std::vector<std::string> kGoldens = {"post_gelu",    "post_gelu_new", "pre_gelu",
                                           "pre_gelu_new", "post_dropout",  "pre_dropout",
                                           "mlm_only"};

BertForPretraining::Heads heads_of(const Golden& golden) {
  return golden.batch().sequence_labels.empty() ? BertForPretraining::Heads::mlm
                                                : BertForPretraining::Heads::mlm_and_nsp;
}

void expect_losses(const ModelResults& results, const Golden& golden, double tolerance) {
  const auto expect_loss = [&](const char* name, double value) {
    const double expected = golden.reals(name)[0];
    EXPECT_NEAR(value, expected, tolerance * expected) << name;
  };
  EXPECT_EQ(results.main.count, golden.batch().num_masked());
  expect_loss("loss", results.loss);
  expect_loss("mlm_loss", results.main.loss / static_cast<double>(results.main.count));
  if (heads_of(golden) == BertForPretraining::Heads::mlm) return;
  EXPECT_EQ(results.nsp.count, golden.batch().num_sequences());
  expect_loss("nsp_loss", results.nsp.loss / static_cast<double>(results.nsp.count));
}

void expect_activations(const ModelResults& results, const Golden& golden, double tolerance) {
  ASSERT_EQ(static_cast<std::int64_t>(results.hidden_states.size()),
            golden.config().num_hidden_layers + 1);
  for (std::size_t l = 0; l < results.hidden_states.size(); ++l) {
    const std::string name = "hidden_states." + std::to_string(l);
    expect_near(name, results.hidden_states[l], golden.reals(name), tolerance);
  }
  expect_near("mlm_logits", results.mlm_logits, golden.reals("mlm_logits"), tolerance);
  if (heads_of(golden) == BertForPretraining::Heads::mlm) return;
  expect_near("pooled", results.pooled, golden.reals("pooled"), tolerance);
  expect_near("nsp_logits", results.nsp_logits, golden.reals("nsp_logits"), tolerance);
}

class GoldenModel : public ::testing::TestWithParam<GoldenOnBackend> {
 protected:
  GoldenModel()
      : golden_(GetParam().golden), tolerance_(golden_tolerance(*GetParam().backend.make().ops)) {}

  // Loads the parameters.
  std::unique_ptr<ModelRun> make_run(const Capacity& capacity) const {
    auto run = std::make_unique<ModelRun>(golden_.config(), heads_of(golden_),
                                          GetParam().backend.make, capacity);
    load_parameters(golden_.file(), run->model().parameters());
    return run;
  }

  const Golden golden_;
  const double tolerance_;
};

TEST_P(GoldenModel, ComputesWhatHuggingFaceComputes) {
  const HostBatch& batch = golden_.batch();
  const ModelResults results =
      make_run(batch.exact_capacity())->step({batch}, golden_.dropout_key());
  expect_activations(results, golden_, tolerance_);
  expect_losses(results, golden_, tolerance_);
  expect_gradients(results, golden_, tolerance_);
}

TEST_P(GoldenModel, IgnoresRowsPastTheCounts) {
  const HostBatch& batch = golden_.batch();
  const Capacity capacity{batch.num_tokens() + 13, batch.num_sequences() + 3,
                          batch.num_masked() + 5, batch.max_seqlen()};
  const std::unique_ptr<ModelRun> run = make_run(capacity);
  // Twice: the second finds in the tail rows what the first left there.
  for (int i = 0; i < 2; ++i) {
    const ModelResults results = run->step({batch}, golden_.dropout_key());
    expect_activations(results, golden_, tolerance_);
    expect_losses(results, golden_, tolerance_);
    expect_gradients(results, golden_, tolerance_);
  }
}

TEST_P(GoldenModel, SumsMicroBatchesToTheSameGradients) {
  const HostBatch& batch = golden_.batch();
  const std::int64_t half = batch.num_sequences() / 2;
  const std::vector<HostBatch> parts = {batch.part(0, half),
                                        batch.part(half, batch.num_sequences())};
  // Every micro-batch has less than the capacity, and the second meets the first one's leftovers.
  const ModelResults results = make_run(batch.exact_capacity())->step(parts, golden_.dropout_key());
  expect_losses(results, golden_, tolerance_);
  expect_gradients(results, golden_, tolerance_);
}

TEST_P(GoldenModel, HasHuggingFacesParameters) {
  expect_hugging_faces_parameters(BertForPretraining(golden_.config(), heads_of(golden_)), golden_);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModel, ::testing::ValuesIn(on_all_backends(kGoldens)),
                         [](const auto& param_info) {
                           return param_info.param.golden + "_on_" + param_info.param.backend.name;
                         });

TEST(Goldens, AreAllTested) { EXPECT_EQ(count_goldens(""), kGoldens.size()); }

}  // namespace
}  // namespace bert::test
