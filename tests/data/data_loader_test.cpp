#include "data/samples/data_loader.h"

#include <set>

#include <gtest/gtest.h>

#include "data/shards/random_streams.h"
#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

bool equal(const Batch& a, const Batch& b) {
  return a.input_ids == b.input_ids && a.position_ids == b.position_ids &&
         a.token_type_ids == b.token_type_ids && a.cu_seqlens == b.cu_seqlens &&
         a.sequence_index == b.sequence_index && a.masked_rows == b.masked_rows &&
         a.masked_targets == b.masked_targets && a.sequence_labels == b.sequence_labels;
}

bool equal(const StepBatches& a, const StepBatches& b) {
  return a.step == b.step && a.global_sequences == b.global_sequences &&
         a.sequences == b.sequences && a.tokens == b.tokens && a.masked == b.masked &&
         std::equal(a.micro_batches.begin(), a.micro_batches.end(), b.micro_batches.begin(),
                    b.micro_batches.end(),
                    [](const Batch& x, const Batch& y) { return equal(x, y); });
}

class DataLoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto documents = counting_documents(varied_lengths(200));
    const auto tokenizer = number_tokenizer(vocabulary_for(documents));
    corpus_ = write_corpus(folder_ / "corpus", tokenizer, documents);
    train_ = std::make_shared<PretrainingDataset>(corpus_, Split::train, DatasetOptions{});
    validation_ =
        std::make_shared<PretrainingDataset>(corpus_, Split::validation, DatasetOptions{});
  }
  static LoaderOptions batches_of(std::int64_t batch_size) {
    LoaderOptions options;
    options.batch_size = batch_size;
    return options;
  }

  TemporaryFolder folder_;
  std::shared_ptr<const Corpus> corpus_;
  std::shared_ptr<const PretrainingDataset> train_, validation_;
};

TEST_F(DataLoaderTest, StepsAreSlicesOfTheShuffledSequence) {
  DataLoader loader(train_, batches_of(16));
  for (std::uint64_t step = 0; step < 3 * train_->num_samples() / 16; ++step) {
    const auto batches = loader.next();
    ASSERT_TRUE(batches);
    ASSERT_EQ(batches->step, step);
    ASSERT_EQ(batches->micro_batches.size(), 1u);
    Batch expected;
    PretrainingDataset::Scratch scratch;
    for (std::uint32_t i = 0; i < 16; ++i) {
      train_->append(train_->plan(train_->shuffled(step * 16 + i)), i, expected, scratch);
    }
    ASSERT_TRUE(equal(batches->micro_batches[0], expected));
    ASSERT_EQ(batches->global_sequences, 16);
    ASSERT_EQ(batches->sequences, 16);
    ASSERT_EQ(batches->tokens, expected.num_tokens());
    ASSERT_EQ(batches->masked, expected.num_masked());
  }
}

TEST_F(DataLoaderTest, ResumeAtAStepEqualsContinuing) {
  LoaderOptions options = batches_of(7);
  options.limits.tokens = 300;
  DataLoader whole(train_, options);
  for (int i = 0; i < 20; ++i) whole.next();
  options.first_step = 20;
  DataLoader resumed(train_, options);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(equal(*whole.next(), *resumed.next()));
}

TEST_F(DataLoaderTest, ThreadsAndPrefetchChangeNothing) {
  LoaderOptions options = batches_of(5);
  options.limits.tokens = 200;
  options.end_step = 60;
  DataLoader one(train_, options);
  options.threads = 4;
  options.prefetch_steps = 9;
  DataLoader many(train_, options);
  int steps = 0;
  while (true) {
    const auto a = one.next(), b = many.next();
    ASSERT_EQ(a.has_value(), b.has_value());
    if (!a) break;
    ASSERT_TRUE(equal(*a, *b));
    ASSERT_TRUE(equal(*a, make_step(train_, options, a->step)));
    ++steps;
  }
  EXPECT_EQ(steps, 60);
  EXPECT_FALSE(one.next());
}

TEST_F(DataLoaderTest, RanksAndMicroBatchesPartitionTheStepExactly) {
  const StepBatches whole = make_step(train_, batches_of(13), 4);
  ASSERT_EQ(whole.micro_batches.size(), 1u);
  const Batch& expected = whole.micro_batches[0];
  for (const int world : {1, 2, 3, 13}) {
    for (const std::int64_t tokens : {128, 300, 100'000}) {
      Batch joined;
      joined.cu_seqlens.push_back(0);
      std::int64_t masked = 0;
      for (int rank = 0; rank < world; ++rank) {
        LoaderOptions options = batches_of(13);
        options.rank = rank;
        options.world_size = world;
        options.limits.tokens = tokens;
        const StepBatches part = make_step(train_, options, 4);
        ASSERT_EQ(part.global_sequences, 13);
        ASSERT_GT(part.sequences, 0);
        masked += part.masked;
        for (const Batch& batch : part.micro_batches) {
          ASSERT_LE(batch.num_tokens(), tokens);
          const auto offset = static_cast<std::int32_t>(joined.num_tokens());
          const auto append = [](auto& to, const auto& from, std::int32_t shift, int skip) {
            for (auto i = from.begin() + skip; i != from.end(); ++i) to.push_back(*i + shift);
          };
          append(joined.input_ids, batch.input_ids, 0, 0);
          append(joined.cu_seqlens, batch.cu_seqlens, offset, 1);
          append(joined.masked_rows, batch.masked_rows, offset, 0);
          append(joined.masked_targets, batch.masked_targets, 0, 0);
          joined.sequence_index.insert(joined.sequence_index.end(), batch.sequence_index.begin(),
                                       batch.sequence_index.end());
        }
      }
      EXPECT_EQ(joined.input_ids, expected.input_ids);
      EXPECT_EQ(joined.cu_seqlens, expected.cu_seqlens);
      EXPECT_EQ(joined.masked_rows, expected.masked_rows);
      EXPECT_EQ(joined.masked_targets, expected.masked_targets);
      EXPECT_EQ(joined.sequence_index, expected.sequence_index);
      EXPECT_EQ(masked, whole.masked);
    }
  }
}

TEST_F(DataLoaderTest, MicroBatchesAreFilledInOrderUpToEachLimit) {
  for (const MicroBatchLimits limits : {MicroBatchLimits{400, 0, 0}, MicroBatchLimits{0, 3, 0},
                                        MicroBatchLimits{0, 0, 40}, MicroBatchLimits{300, 4, 30}}) {
    LoaderOptions options = batches_of(40);
    options.limits = limits;
    const auto within = [&](std::int64_t tokens, std::int64_t sequences, std::int64_t masked) {
      return (limits.tokens == 0 || tokens <= limits.tokens) &&
             (limits.sequences == 0 || sequences <= limits.sequences) &&
             (limits.masked == 0 || masked <= limits.masked);
    };
    const StepBatches step = make_step(train_, options, 0);
    ASSERT_GT(step.micro_batches.size(), 1u);
    for (std::size_t i = 0; i < step.micro_batches.size(); ++i) {
      const Batch& batch = step.micro_batches[i];
      EXPECT_TRUE(within(batch.num_tokens(), batch.num_sequences(), batch.num_masked()));
      if (i + 1 == step.micro_batches.size()) continue;
      std::int64_t most_masked = 0;
      for (std::size_t b = 0; b + 1 < batch.cu_seqlens.size(); ++b) {
        most_masked +=
            train_->masker().num_predictions(batch.cu_seqlens[b + 1] - batch.cu_seqlens[b]);
      }
      const std::int64_t next = step.micro_batches[i + 1].cu_seqlens[1];
      EXPECT_FALSE(within(batch.num_tokens() + next, batch.num_sequences() + 1,
                          most_masked + train_->masker().num_predictions(next)));
    }
  }
}

// Of a fixed size, the same for any number of ranks; the last of a step may be smaller.
TEST_F(DataLoaderTest, MicroBatchesOfAFixedSizeAreHandedOutWhole) {
  LoaderOptions options = batches_of(23);
  options.micro_batch_sequences = 5;
  options.limits = {5 * 128, 5, 5 * 19};
  const StepBatches whole = make_step(train_, options, 3);
  ASSERT_EQ(whole.micro_batches.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(whole.micro_batches[i].num_sequences(), i < 4 ? 5 : 3);
    EXPECT_EQ(whole.micro_batches[i].sequence_index.front(), 5 * i);
  }
  for (const int world : {2, 3, 5}) {
    std::size_t found = 0;
    options.world_size = world;
    for (options.rank = 0; options.rank < world; ++options.rank) {
      const StepBatches part = make_step(train_, options, 3);
      EXPECT_EQ(part.global_sequences, 23);
      ASSERT_FALSE(part.micro_batches.empty());
      for (const Batch& batch : part.micro_batches) {
        ASSERT_LT(found, 5u);
        EXPECT_EQ(batch.input_ids, whole.micro_batches[found].input_ids);
        EXPECT_EQ(batch.sequence_index, whole.micro_batches[found].sequence_index);
        EXPECT_EQ(batch.masked_rows, whole.micro_batches[found++].masked_rows);
      }
    }
    EXPECT_EQ(found, 5u);
  }
}

TEST_F(DataLoaderTest, InOrderGivesEverySampleOnceAndTheSameEachTime) {
  LoaderOptions options = batches_of(4);
  options.in_order = true;
  std::vector<StepBatches> first;
  DataLoader loader(validation_, options);
  std::uint64_t sequences = 0;
  while (auto step = loader.next()) {
    sequences += static_cast<std::uint64_t>(step->sequences);
    first.push_back(std::move(*step));
  }
  EXPECT_EQ(sequences, validation_->num_samples());
  EXPECT_EQ(first.size(), (validation_->num_samples() + 3) / 4);
  DataLoader again(validation_, options);
  for (const StepBatches& step : first) EXPECT_TRUE(equal(step, *again.next()));

  options.end_step = 2;  // the first two batches only
  options.world_size = 3;
  std::set<std::int64_t> seen;
  std::int64_t total = 0;
  for (options.rank = 0; options.rank < 3; ++options.rank) {
    DataLoader part(validation_, options);
    while (auto step = part.next()) {
      for (const Batch& batch : step->micro_batches) {
        for (const std::uint32_t i : batch.sequence_index) {
          seen.insert(static_cast<std::int64_t>(step->step * 4 + i));
          ++total;
        }
      }
    }
  }
  EXPECT_EQ(total, 8);
  EXPECT_EQ(seen.size(), 8u);
}

TEST_F(DataLoaderTest, DamageFoundWhileLoadingReachesTheCaller) {
  const std::filesystem::path tokens = folder_ / "corpus" / "train" / "tokens.bin";
  flip_bit(tokens, 8 * 100);
  const auto corpus = std::make_shared<const Corpus>(folder_ / "corpus");
  const auto data =
      std::make_shared<const PretrainingDataset>(corpus, Split::train, DatasetOptions{});
  DataLoader loader(data, batches_of(8));
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      loader.next();
      FAIL() << "damaged tokens were read";
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(tokens.string()), std::string::npos) << error.what();
    }
  }
}

TEST_F(DataLoaderTest, MayBeLeftAtAnyTime) {
  for (int taken = 0; taken < 4; ++taken) {
    LoaderOptions options = batches_of(8);
    options.threads = 3;
    DataLoader loader(train_, options);
    for (int i = 0; i < taken; ++i) loader.next();
  }
}

TEST_F(DataLoaderTest, OptionsOutOfRange) {
  const auto refused = [&](auto change) {
    LoaderOptions options = batches_of(8);
    change(options);
    EXPECT_THROW(DataLoader(train_, options), InputError);
  };
  refused([](LoaderOptions& o) { o.batch_size = 0; });
  refused([](LoaderOptions& o) { o.rank = 1; });
  refused([](LoaderOptions& o) { o.world_size = 9; });
  refused([](LoaderOptions& o) { o.limits.tokens = 127; });
  refused([](LoaderOptions& o) { o.limits.masked = 18; });
  refused([](LoaderOptions& o) { o.limits.sequences = -1; });
  refused([](LoaderOptions& o) { o.threads = 0; });
  refused([](LoaderOptions& o) {
    o.micro_batch_sequences = 4;
    o.limits.tokens = 4 * 128 - 1;
  });
  refused([](LoaderOptions& o) {
    o.micro_batch_sequences = 4;
    o.world_size = 3;
  });
  refused([](LoaderOptions& o) { o.prefetch_steps = 0; });
}

}  // namespace
}  // namespace bert
