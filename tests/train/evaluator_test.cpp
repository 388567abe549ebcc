// The evaluator: ranks share the samples, and what a micro-batch holds changes nothing.
#include "train/step/evaluator.h"

#include <gtest/gtest.h>

#include "model/model_files.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/one_rank.h"
#include "train/inference/mask_filling.h"
#include "train/step/backend.h"

namespace bert {
namespace {

// Counts what it would have told the others.
class LonelyRank final : public OneRank {
 public:
  using OneRank::OneRank;
  void all_reduce_sum(const Tensor& tensor) override { elements_reduced_ += tensor.numel(); }
  std::int64_t elements_reduced() const { return elements_reduced_; }

 private:
  std::int64_t elements_reduced_ = 0;
};

class EvaluatorTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto documents = counting_documents(varied_lengths(40));
    config_.vocab_size = vocabulary_for(documents);
    config_.hidden_size = 8;
    config_.num_hidden_layers = 1;
    config_.num_attention_heads = 2;
    config_.intermediate_size = 12;
    config_.max_position_embeddings = 32;
    corpus_ = write_corpus(folder_ / "corpus",
                           number_tokenizer(static_cast<std::int32_t>(config_.vocab_size)),
                           documents, {.validation_fraction = 0.5});
  }
  std::shared_ptr<const PretrainingDataset> dataset(bool next_sentence) const {
    DatasetOptions options;
    options.sequence_length = 32;
    options.next_sentence = next_sentence;
    return std::make_shared<const PretrainingDataset>(corpus_, Split::validation, options);
  }
  EvaluationResult run(Communicator& communicator, std::int64_t sequences, bool next_sentence,
                       std::int64_t batch_size, std::int64_t max_batches = 0) const {
    Backend backend = make_backend(Precision::fp64);
    const Capacity capacity{.tokens = 32 * sequences,
                            .sequences = sequences,
                            .masked = 5 * sequences,
                            .max_seqlen = 32};
    BertForPretraining model(config_, BertForPretraining::Heads::mlm_and_nsp);
    model.allocate(*backend.device, *backend.ops, capacity, false);
    model.parameters().initialize(config_, 1);
    DeviceBatch memory(*backend.device, *backend.ops, capacity, model);
    return Evaluator(model, *backend.device, memory)
        .run(dataset(next_sentence), batch_size, max_batches, communicator);
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Corpus> corpus_;
  BertConfig config_;
};

TEST_F(EvaluatorTest, RanksShareTheSamples) {
  LonelyRank single(0, 1), first(0, 2), second(1, 2);
  const EvaluationResult all = run(single, 4, true, 6);
  EXPECT_GT(all.mlm.count, 100);
  EXPECT_EQ(all.nsp.count, static_cast<std::int64_t>(dataset(true)->num_samples()));
  const EvaluationResult a = run(first, 4, true, 6), b = run(second, 4, true, 6);
  EXPECT_GT(a.mlm.count, 0);
  EXPECT_GT(b.mlm.count, 0);
  EXPECT_EQ(a.mlm.count + b.mlm.count, all.mlm.count);
  EXPECT_EQ(a.mlm.correct + b.mlm.correct, all.mlm.correct);
  EXPECT_NEAR(a.mlm.loss + b.mlm.loss, all.mlm.loss, 1e-9 * all.mlm.loss);
  EXPECT_EQ(a.nsp.count + b.nsp.count, all.nsp.count);
  EXPECT_EQ(a.nsp.correct + b.nsp.correct, all.nsp.correct);
  EXPECT_NEAR(a.nsp.loss + b.nsp.loss, all.nsp.loss, 1e-9 * all.nsp.loss);
  // How many micro-batches each rank has, counts and right answers of both heads, and four numbers
  // of each micro-batch were handed to the other ranks.
  EXPECT_GT(first.elements_reduced(), 6);
  EXPECT_EQ((first.elements_reduced() - 6) % 4, 0);
}

TEST_F(EvaluatorTest, MicroBatchesChangeNothing) {
  LonelyRank single(0, 1);
  const EvaluationResult small = run(single, 1, true, 6), large = run(single, 7, true, 13);
  EXPECT_EQ(small.mlm.count, large.mlm.count);
  EXPECT_NEAR(small.mlm.loss, large.mlm.loss, 1e-9 * large.mlm.loss);
  EXPECT_NEAR(small.nsp.loss, large.nsp.loss, 1e-9 * large.nsp.loss);
}

// Micro-batches of three sequences, whose own losses are differences between evaluations of more
// and more of them.
TEST_F(EvaluatorTest, TheStandardErrorIsThatOfARatioOfClusters) {
  LonelyRank single(0, 1);
  const EvaluationResult one = run(single, 3, true, 3, 1);
  EXPECT_FALSE(one.loss_se.has_value());
  EXPECT_FALSE(one.perplexity_se().has_value());
  constexpr int kBatches = 7;
  std::vector<double> losses, counts;
  EvaluationResult before, all;
  for (int n = 1; n <= kBatches; ++n) {
    all = run(single, 3, true, 3, n);
    losses.push_back(all.mlm.loss - before.mlm.loss);
    counts.push_back(static_cast<double>(all.mlm.count - before.mlm.count));
    before = all;
  }
  double squares = 0.0, total = 0.0;
  for (std::size_t i = 0; i < kBatches; ++i) {
    squares += std::pow(losses[i] - all.loss() * counts[i], 2);
    total += counts[i];
  }
  const double expected = std::sqrt(kBatches / (kBatches - 1.0) * squares) / total;
  ASSERT_TRUE(all.loss_se.has_value());
  EXPECT_GT(expected, 1e-4);
  EXPECT_NEAR(*all.loss_se, expected, 1e-9);
  EXPECT_NEAR(*all.perplexity_se(), std::exp(all.loss()) * expected, 1e-6);
}

TEST_F(EvaluatorTest, StopsAfterMaxBatchesAndLeavesOutMissingLabels) {
  LonelyRank single(0, 1);
  EXPECT_EQ(run(single, 4, true, 3, 2).nsp.count, 6);
  const EvaluationResult without = run(single, 4, false, 3, 2);
  EXPECT_EQ(without.nsp.count, 0);
  EXPECT_EQ(without.nsp_accuracy(), 0.0);
  EXPECT_GT(without.mlm.count, 0);
}

TEST(Inference, ShowsWordsAndPieces) {
  const WordpieceTokenizer tokenizer(
      {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "walk", "##ing", "is", "fun", "."},
      wordpiece_options(false));
  Batch batch;
  batch.input_ids = {2, 5, 6, 7, 8, 9, 3, 2, 4, 4, 7, 8, 4, 3};
  batch.cu_seqlens = {0, 7, 14};
  batch.sequence_index = {0, 1};
  batch.masked_rows = {4, 8, 9, 12};
  batch.masked_targets = {8, 5, 6, 9};
  const std::vector<std::vector<TokenPrediction>> predictions = {
      {{7, 0.5}}, {{5, 0.976}}, {{6, 0.25}}, {{9, 1.0}}};
  EXPECT_EQ(show_predictions(tokenizer, batch, predictions, 0), "walking is is[50.0%].");
  EXPECT_EQ(show_predictions(tokenizer, batch, predictions, 1),
            "walk[97.6%] ##ing[25.0%] is fun .[100.0%]");
  EXPECT_EQ(show_masked(tokenizer, batch, 1), "[MASK] [MASK] is fun [MASK]");
  EXPECT_EQ(show_original(tokenizer, batch, 1), "walking is fun.");
  EXPECT_EQ(show_original(tokenizer, batch, 0), "walking is fun.");

  const TaskSequence typed = sequence_with_masks(tokenizer, "Walking [MASK] fun.", 8);
  EXPECT_EQ(typed.input_ids, (std::vector<std::int32_t>{2, 5, 6, 4, 8, 9, 3}));
  EXPECT_EQ(typed.rows, (std::vector<std::int32_t>{3}));
  EXPECT_THROW(sequence_with_masks(tokenizer, "walking [MASK] fun.", 6), InputError);
  EXPECT_THROW(sequence_with_masks(tokenizer, "walking is fun", 8), InputError);
}

}  // namespace
}  // namespace bert
