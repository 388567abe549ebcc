#include "data/samples/dataset_mixture.h"

#include <map>
#include <set>

#include <gtest/gtest.h>

#include "data/samples/corpus_set.h"
#include "data/samples/data_loader.h"
#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

constexpr std::int32_t kVocab = 40'000;

// Three corpora of unequal size.
class DatasetMixtureTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const auto tokenizer = number_tokenizer(kVocab);
    for (const std::size_t documents : {60u, 200u, 25u}) {
      const std::string name = fmt::format("corpus{}", documents);
      write_corpus(*folder_ / name, tokenizer, counting_documents(varied_lengths(documents)));
      names_.push_back((*folder_ / name).string());
    }
  }
  static void TearDownTestSuite() {
    delete folder_;
    names_.clear();
  }

  static DatasetMixture mixture(std::vector<std::optional<double>> weights,
                                Split split = Split::train) {
    std::vector<CorpusChoice> choices;
    for (std::size_t i = 0; i < names_.size(); ++i) choices.push_back({names_[i], weights[i]});
    return CorpusSet(choices).mixture(split, {});
  }

  static TemporaryFolder* folder_;
  static std::vector<std::string> names_;
};

TemporaryFolder* DatasetMixtureTest::folder_;
std::vector<std::string> DatasetMixtureTest::names_;

TEST_F(DatasetMixtureTest, OneCorpusIsItself) {
  const auto data = std::make_shared<const PretrainingDataset>(
      std::make_shared<const Corpus>(names_[0]), Split::train, DatasetOptions{});
  const DatasetMixture mixture(data);
  EXPECT_EQ(mixture.num_samples(), data->num_samples());
  for (std::uint64_t i = 0; i < 3 * data->num_samples(); ++i) {
    ASSERT_EQ(mixture.shuffled(i), data->shuffled(i));
  }
  for (std::uint64_t i = 0; i < data->num_samples(); ++i) {
    ASSERT_EQ(mixture.in_order(i), data->in_order(i));
  }
}

TEST_F(DatasetMixtureTest, WeightsAreKeptAtEveryMoment) {
  const std::vector<double> shares = {0.5, 0.125, 0.375};
  const DatasetMixture data = mixture({4.0, 1.0, 3.0});
  std::vector<std::uint64_t> counts(3);
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    const SampleRef ref = data.shuffled(i);
    // Each corpus is gone through in its own order, whatever stands between.
    SampleRef own = data.datasets()[ref.corpus]->shuffled(counts[ref.corpus]++);
    own.corpus = ref.corpus;
    ASSERT_EQ(ref, own);
    for (std::size_t corpus = 0; corpus < 3; ++corpus) {
      ASSERT_NEAR(static_cast<double>(counts[corpus]), shares[corpus] * static_cast<double>(i + 1),
                  2.0);
    }
  }
}

TEST_F(DatasetMixtureTest, WithoutWeightsEverySampleOncePerEpoch) {
  const DatasetMixture data = mixture({{}, {}, {}});
  std::uint64_t sum = 0;
  for (const auto& dataset : data.datasets()) sum += dataset->num_samples();
  ASSERT_EQ(data.num_samples(), sum);
  for (std::uint64_t epoch = 0; epoch < 2; ++epoch) {
    std::set<std::pair<std::uint32_t, std::uint64_t>> seen;
    for (std::uint64_t i = 0; i < sum; ++i) {
      const SampleRef ref = data.shuffled(epoch * sum + i);
      ASSERT_EQ(ref.epoch, epoch);
      ASSERT_TRUE(seen.insert({ref.corpus, ref.sample}).second);
    }
  }
}

TEST_F(DatasetMixtureTest, EvaluationTakesEachSampleOnceWhateverTheWeights) {
  const DatasetMixture data = mixture({1000.0, 1.0, 1.0}, Split::validation);
  std::set<std::pair<std::uint32_t, std::uint64_t>> seen;
  for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
    const SampleRef ref = data.in_order(i);
    ASSERT_TRUE(seen.insert({ref.corpus, ref.sample}).second);
  }
}

TEST_F(DatasetMixtureTest, CorporaDrawDifferentNumbers) {
  const CorpusSet twice({{names_[0]}, {names_[0]}});
  const DatasetMixture data = twice.mixture(Split::train, {});
  std::size_t same = 0;
  const std::uint64_t n = data.any().num_samples();
  for (std::uint64_t i = 0; i < n; ++i) {
    same += data.datasets()[0]->shuffled(i).sample == data.datasets()[1]->shuffled(i).sample;
  }
  EXPECT_LT(same, 10u);
  EXPECT_TRUE(twice.shares().empty());
  EXPECT_EQ(twice.counts(Split::train).tokens,
            2 * CorpusSet({{names_[0]}}).counts(Split::train).tokens);
}

TEST_F(DatasetMixtureTest, TheLoaderTakesFromAll) {
  const DatasetMixture data = mixture({1.0, 1.0, 2.0});
  const StepBatches step = make_step(data, {.batch_size = 64}, 3);
  Batch expected;
  PretrainingDataset::Scratch scratch;
  std::map<std::uint32_t, int> corpora;
  for (std::uint32_t i = 0; i < 64; ++i) {
    const SampleRef ref = data.shuffled(3 * 64 + i);
    ++corpora[ref.corpus];
    data.append(data.plan(ref), i, expected, scratch);
  }
  ASSERT_EQ(step.micro_batches.size(), 1u);
  EXPECT_EQ(step.micro_batches[0].input_ids, expected.input_ids);
  EXPECT_EQ(corpora, (std::map<std::uint32_t, int>{{0, 16}, {1, 16}, {2, 32}}));
}

// A corpus without a validation split is trained on beside one that has it.
TEST_F(DatasetMixtureTest, ValidationIsOfThoseThatHaveIt) {
  const std::string bare = (*folder_ / "bare").string();
  CorpusWriterOptions options;
  options.validation_fraction = 0;
  write_corpus(bare, number_tokenizer(kVocab), counting_documents(varied_lengths(30)), options);
  const CorpusSet set({{bare, 3.0}, {names_[0], 1.0}}), alone({{bare}});
  EXPECT_EQ(set.mixture(Split::train, {}).datasets().size(), 2u);
  EXPECT_EQ(set.shares(), (std::vector{0.75, 0.25}));
  const DatasetMixture validation = set.mixture(Split::validation, {});
  ASSERT_EQ(validation.datasets().size(), 1u);
  EXPECT_EQ(validation.any().corpus().folder(), names_[0]);
  EXPECT_EQ(validation.num_samples(),
            CorpusSet({{names_[0]}}).mixture(Split::validation, {}).num_samples());
  try {
    alone.mixture(Split::validation, {});
    FAIL() << "no error";
  } catch (const InputError& error) {
    const std::string text = error.what();
    for (const std::string& part : {bare + "/validation: ", "data.path='[" + bare + ", OTHER]'",
                                    std::string("--data OTHER")}) {
      EXPECT_NE(text.find(part), std::string::npos) << text << " lacks " << part;
    }
  }
}

TEST_F(DatasetMixtureTest, WhatDoesNotFitIsRefused) {
  EXPECT_THROW(mixture({1.0, {}, 1.0}), InputError);
  EXPECT_THROW(mixture({1.0, 0.0, 1.0}), InputError);
  EXPECT_THROW(mixture({1.0, -1.0, 1.0}), InputError);
  const auto documents = counting_documents({{5, 5}, {5, 5}, {5}});
  write_corpus(*folder_ / "other", number_tokenizer(kVocab + 1), documents);
  const CorpusSet others({{names_[0]}, {(*folder_ / "other").string()}});
  EXPECT_THROW(others.mixture(Split::train, {}), InputError);
  EXPECT_THROW(others.check_tokenizer(number_tokenizer(kVocab)), InputError);
}

TEST_F(DatasetMixtureTest, FingerprintsTellSetsApart) {
  const auto fingerprint = [](const std::vector<CorpusChoice>& choices) {
    return CorpusSet(choices).fingerprint();
  };
  EXPECT_EQ(fingerprint({{names_[0]}}), Corpus(names_[0]).fingerprint());
  std::set<std::string> all;
  all.insert(fingerprint({{names_[0]}}));
  all.insert(fingerprint({{names_[0]}, {names_[1]}}));
  all.insert(fingerprint({{names_[1]}, {names_[0]}}));
  all.insert(fingerprint({{names_[0], 1.0}, {names_[1], 1.0}}));
  all.insert(fingerprint({{names_[0], 2.0}, {names_[1], 1.0}}));
  EXPECT_EQ(all.size(), 5u);
}

}  // namespace
}  // namespace bert
