#include "data/samples/pretraining_dataset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "data/samples/corpus_audit.h"
#include "data/shards/random_streams.h"
#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

// One corpus for all tests here: every token has an id of its own.
class PretrainingDatasetTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    documents_ = new auto(counting_documents(varied_lengths(400)));
    tokenizer_ = new WordpieceTokenizer(number_tokenizer(vocabulary_for(*documents_)));
    corpus_ = new auto(write_corpus(*folder_ / "corpus", *tokenizer_, *documents_));
  }
  static void TearDownTestSuite() {
    delete corpus_;
    delete tokenizer_;
    delete documents_;
    delete folder_;
  }

  static PretrainingDataset dataset(const DatasetOptions& options, Split split = Split::train) {
    return PretrainingDataset(*corpus_, split, options);
  }
  static Batch sample(const PretrainingDataset& data, const SampleRef& ref) {
    Batch batch;
    PretrainingDataset::Scratch scratch;
    data.append(data.plan(ref), 0, batch, scratch);
    return batch;
  }
  // Ids before masking.
  static std::vector<std::int32_t> original(const Batch& batch) {
    std::vector<std::int32_t> ids = batch.input_ids;
    for (std::size_t i = 0; i < batch.masked_rows.size(); ++i) {
      ids[static_cast<std::size_t>(batch.masked_rows[i])] = batch.masked_targets[i];
    }
    return ids;
  }
  // The document that the token with this id is from.
  static std::size_t document_of(std::int32_t id) {
    std::size_t document = 0;
    while ((*documents_)[document].ids.back() < id) ++document;
    return document;
  }

  static TemporaryFolder* folder_;
  static std::vector<TokenizedDocument>* documents_;
  static WordpieceTokenizer* tokenizer_;
  static std::shared_ptr<const Corpus>* corpus_;
};

TemporaryFolder* PretrainingDatasetTest::folder_;
std::vector<TokenizedDocument>* PretrainingDatasetTest::documents_;
WordpieceTokenizer* PretrainingDatasetTest::tokenizer_;
std::shared_ptr<const Corpus>* PretrainingDatasetTest::corpus_;

TEST_F(PretrainingDatasetTest, EveryTokenExactlyOncePerEpoch) {
  for (const Sampling sampling : {Sampling::sentences, Sampling::chunks}) {
    std::set<std::int32_t> both_parts;
    for (const Split split : {Split::train, Split::validation}) {
      DatasetOptions options;
      options.sampling = sampling;
      options.sequence_length = 50;  // not among the stored tables
      const PretrainingDataset data = dataset(options, split);
      for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
        std::set<std::int32_t> seen;
        for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
          const Batch batch = sample(data, data.shuffled(epoch * data.num_samples() + i));
          ASSERT_LE(batch.num_tokens(), 50);
          const auto ids = original(batch);
          ASSERT_EQ(ids.front(), 2);
          ASSERT_EQ(ids.back(), 3);
          for (std::size_t k = 1; k + 1 < ids.size(); ++k) {
            ASSERT_TRUE(seen.insert(ids[k]).second) << "twice: " << ids[k];
            ASSERT_TRUE(k == 1 || ids[k] == ids[k - 1] + 1);
            ASSERT_EQ(document_of(ids[k]), document_of(ids[1]));
          }
        }
        ASSERT_EQ(seen.size(), (*corpus_)->shard(split).num_tokens());
        both_parts.insert(seen.begin(), seen.end());
      }
    }
    EXPECT_EQ(both_parts.size(), static_cast<std::size_t>(tokenizer_->vocab_size() - kNumSpecial));
  }
}

TEST_F(PretrainingDatasetTest, EpochsDifferInOrderAndMasksButNotInCuts) {
  const PretrainingDataset data = dataset({});
  const std::uint64_t n = data.num_samples();
  std::size_t same_order = 0, same_masks = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const SampleRef first = data.shuffled(i), second = data.shuffled(n + i);
    EXPECT_EQ(first.epoch, 0u);
    EXPECT_EQ(second.epoch, 1u);
    same_order += first.sample == second.sample;
    const Batch a = sample(data, {0, i}), b = sample(data, {1, i});
    EXPECT_EQ(original(a), original(b));
    same_masks += a.masked_rows == b.masked_rows;
  }
  EXPECT_LE(same_order, 10u);
  EXPECT_LT(same_masks, n / 5);  // very short samples may agree
}

TEST_F(PretrainingDatasetTest, SamplesArePureFunctions) {
  DatasetOptions options;
  options.next_sentence = true;
  const PretrainingDataset a = dataset(options), b = dataset(options);
  options.seed = 1;
  const PretrainingDataset other = dataset(options);
  std::size_t same = 0;
  for (std::uint64_t i = 0; i < a.num_samples(); ++i) {
    const Batch x = sample(a, {3, i});
    const Batch y = sample(b, {3, a.num_samples() - 1 - i});  // asked for in another order
    const Batch z = sample(b, {3, i});
    EXPECT_EQ(x.input_ids, z.input_ids);
    EXPECT_EQ(x.masked_rows, z.masked_rows);
    EXPECT_EQ(x.sequence_labels, z.sequence_labels);
    same += sample(other, {3, i}).input_ids == x.input_ids;
  }
  EXPECT_LT(same, a.num_samples() / 10);
}

TEST_F(PretrainingDatasetTest, EvaluationMasksAreFixed) {
  const PretrainingDataset data = dataset({}, Split::validation);
  for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
    EXPECT_EQ(data.in_order(i), (SampleRef{kEvaluationEpoch, i}));
    EXPECT_EQ(sample(data, data.in_order(i)).input_ids, sample(data, data.in_order(i)).input_ids);
  }
}

TEST_F(PretrainingDatasetTest, PackedBatchIsWellFormed) {
  DatasetOptions options;
  options.next_sentence = true;
  const PretrainingDataset data = dataset(options);
  Batch packed;
  PretrainingDataset::Scratch scratch;
  for (std::uint64_t i = 0; i < 20; ++i) {
    data.append(data.plan({0, i}), static_cast<std::uint32_t>(100 + i), packed, scratch);
  }
  ASSERT_EQ(packed.cu_seqlens.size(), 21u);
  ASSERT_EQ(packed.position_ids.size(), packed.input_ids.size());
  ASSERT_EQ(packed.token_type_ids.size(), packed.input_ids.size());
  std::vector<std::int32_t> rows;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Batch alone = sample(data, {0, i});
    const auto begin = packed.cu_seqlens[i], end = packed.cu_seqlens[i + 1];
    ASSERT_EQ(end - begin, alone.num_tokens());
    const auto same = [&](const auto& all, const auto& part) {
      return std::equal(part.begin(), part.end(), all.begin() + begin);
    };
    EXPECT_TRUE(same(packed.input_ids, alone.input_ids));
    EXPECT_TRUE(same(packed.position_ids, alone.position_ids));
    EXPECT_TRUE(same(packed.token_type_ids, alone.token_type_ids));
    EXPECT_EQ(alone.position_ids.front(), 0);
    EXPECT_EQ(alone.position_ids.back(), alone.num_tokens() - 1);
    for (const std::int32_t row : alone.masked_rows) rows.push_back(begin + row);
    EXPECT_EQ(packed.sequence_index[i], 100 + i);
  }
  EXPECT_EQ(packed.masked_rows, rows);
}

TEST_F(PretrainingDatasetTest, NextSentence) {
  DatasetOptions options;
  options.next_sentence = true;
  options.sequence_length = 64;
  const PretrainingDataset data = dataset(options);
  const TokenShard& shard = (*corpus_)->shard(Split::train);
  std::set<std::int32_t> sentence_starts;
  for (std::uint64_t i = 0; i < shard.num_sentences(); ++i) {
    std::int32_t id = 0;
    shard.read_ids(shard.sentence_begin(i), {&id, 1});
    sentence_starts.insert(id);
  }
  std::uint64_t random = 0, all = 0;
  double splits_at_sentences = 0, random_at_sentences = 0;
  double ends_at_sentences = 0, random_ends_at_sentences = 0;
  std::array<std::array<double, 2>, 65> lengths{};  // samples by length and label
  for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
    for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
      const SamplePlan plan = data.plan({epoch, i});
      const Batch batch = sample(data, {epoch, i});
      ASSERT_EQ(batch.num_tokens(), plan.length);
      ASSERT_LE(batch.num_tokens(), 64);
      const auto ids = original(batch);
      // [CLS] A [SEP] B [SEP]: types 0 up to the first [SEP], 1 after it.
      const auto first_sep = std::find(ids.begin(), ids.end(), 3) - ids.begin();
      ASSERT_EQ(ids.front(), 2);
      ASSERT_EQ(ids.back(), 3);
      ASSERT_GT(first_sep, 1);
      ASSERT_LT(first_sep + 2, batch.num_tokens());
      for (std::int64_t k = 0; k < batch.num_tokens(); ++k) {
        ASSERT_EQ(batch.token_type_ids[static_cast<std::size_t>(k)], k > first_sep);
      }
      const std::int32_t a_last = ids[static_cast<std::size_t>(first_sep - 1)];
      const std::int32_t b_first = ids[static_cast<std::size_t>(first_sep + 1)];
      const std::int32_t after_b = ids[ids.size() - 2] + 1;
      const bool sentence_end = sentence_starts.contains(after_b) ||
                                (*documents_)[document_of(b_first)].ids.back() == after_b - 1;
      ASSERT_EQ(batch.sequence_labels.size(), 1u);
      lengths[ids.size()][static_cast<std::size_t>(batch.sequence_labels[0])] += 1;
      if (batch.sequence_labels[0] == 1) {
        ASSERT_NE(document_of(a_last), document_of(b_first));
        ASSERT_EQ(document_of(after_b - 1), document_of(b_first));
        random_at_sentences += sentence_starts.contains(b_first);
        random_ends_at_sentences += sentence_end;
        ++random;
      } else {
        ASSERT_EQ(b_first, a_last + 1);
        ASSERT_EQ(document_of(a_last), document_of(b_first));
        splits_at_sentences += sentence_starts.contains(b_first);
        ends_at_sentences += sentence_end;
      }
      ++all;
    }
  }
  // Half of them, but for samples of a single token, whose B is always random, and for the one or
  // two pieces that make no group of three.
  EXPECT_GE(random, all / 2 - 20);
  EXPECT_LE(static_cast<double>(random), 0.52 * static_cast<double>(all));
  // Neither where B begins, nor where it ends, nor the sample's length says much of the label, even
  // where most pieces are torn out of long sentences.
  const auto follows = static_cast<double>(all - random), others = static_cast<double>(random);
  EXPECT_NEAR(random_at_sentences / others, splits_at_sentences / follows, 0.08);
  EXPECT_NEAR(random_ends_at_sentences / others, ends_at_sentences / follows, 0.08);
  double below[2] = {0, 0}, best_guess = 0.5;  // shares of each label with a length up to some
  for (const auto& counts : lengths) {
    below[0] += counts[0] / follows;
    below[1] += counts[1] / others;
    best_guess = std::max(best_guess, 0.5 + std::abs(below[0] - below[1]) / 2);
  }
  EXPECT_LT(best_guess, 0.6);
}

// The random second segments come on top: as its own text, each token is seen once.
TEST_F(PretrainingDatasetTest, NextSentenceUsesEveryTokenOncePerEpochAsItsOwnText) {
  for (const Sampling sampling : {Sampling::sentences, Sampling::chunks}) {
    for (const Split split : {Split::train, Split::validation}) {
      DatasetOptions options;
      options.sampling = sampling;
      options.next_sentence = true;
      options.sequence_length = 50;
      const PretrainingDataset data = dataset(options, split);
      const TokenShard& shard = (*corpus_)->shard(split);
      for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<int> own(shard.num_tokens());
        std::uint64_t random_tokens = 0, random_samples = 0;
        std::set<std::uint64_t> samples;
        for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
          const SampleRef ref = data.shuffled(epoch * data.num_samples() + i);
          ASSERT_EQ(ref.epoch, epoch);
          ASSERT_TRUE(samples.insert(ref.sample).second);
          const SamplePlan plan = data.plan(ref);
          for (std::uint64_t token = plan.a_begin; token < plan.a_end; ++token) ++own[token];
          if (plan.next_label == 1) {
            random_tokens += plan.b_end - plan.b_begin;
            ++random_samples;
          } else {
            for (std::uint64_t token = plan.b_begin; token < plan.b_end; ++token) ++own[token];
          }
        }
        for (std::size_t token = 0; token < own.size(); ++token) {
          ASSERT_EQ(own[token], 1) << "token " << token << ", epoch " << epoch;
        }
        EXPECT_GE(random_samples, data.num_samples() / 2 - 1);
        EXPECT_GE(random_tokens, random_samples);
      }
    }
  }
}

// Which of three pieces is halved, and where random segments come from, is uniform.
TEST_F(PretrainingDatasetTest, NextSentenceDrawsAreUniform) {
  DatasetOptions options;
  options.next_sentence = true;
  options.sequence_length = 512;  // a document is a piece
  const PretrainingDataset data = dataset(options);
  const TokenShard& shard = (*corpus_)->shard(Split::train);
  const std::uint64_t documents = shard.num_documents();
  std::vector<std::uint64_t> begins;
  for (std::uint64_t i = 0; i < documents; ++i) {
    begins.push_back(shard.sentence_begin(shard.document_begin(i)));
  }
  const auto document = [&](std::uint64_t token) {
    return static_cast<std::size_t>(std::upper_bound(begins.begin(), begins.end(), token) -
                                    begins.begin() - 1);
  };
  // A group whose pieces can all be split; its sample 2 is the first half of the chosen one.
  std::uint64_t sample = 2;
  for (std::set<std::size_t> halved; halved.size() < 3; sample += halved.size() < 3 ? 4 : 0) {
    halved.clear();
    for (std::uint64_t epoch = 0; epoch < 60; ++epoch) {
      halved.insert(document(data.plan({epoch, sample}).a_begin));
    }
  }
  const std::uint64_t trials = 30'000;
  std::map<std::size_t, double> chosen;
  std::vector<double> partners(documents);
  for (std::uint64_t epoch = 0; epoch < trials; ++epoch) {
    const SamplePlan plan = data.plan({epoch, sample});
    ASSERT_EQ(plan.next_label, 1);
    chosen[document(plan.a_begin)] += 1;
    partners[document(plan.b_begin)] += 1;
  }
  ASSERT_EQ(chosen.size(), 3u);
  double chi_square = 0;
  for (const auto& [which, count] : chosen) {
    const double expected = static_cast<double>(trials) / 3;
    chi_square += std::pow(count - expected, 2) / expected;
  }
  EXPECT_LT(chi_square, 28);  // two degrees of freedom: once in a million
  // Documents of more than one piece, or whose sentence may not fit, are not counted.
  std::vector<double> counts;
  for (std::size_t i = 0; i < documents; ++i) {
    const std::uint64_t end = i + 1 < documents ? begins[i + 1] : shard.num_tokens();
    if (end - begins[i] <= 100 && !chosen.contains(i)) counts.push_back(partners[i]);
  }
  ASSERT_GT(counts.size(), 100u);
  double mean = 0;
  for (const double count : counts) mean += count / static_cast<double>(counts.size());
  chi_square = 0;
  for (const double count : counts) chi_square += std::pow(count - mean, 2) / mean;
  const auto degrees = static_cast<double>(counts.size() - 1);
  EXPECT_NEAR(chi_square, degrees, 5 * std::sqrt(2 * degrees));
}

TEST_F(PretrainingDatasetTest, StaticMasksComeBack) {
  DatasetOptions options;
  options.static_masks = 3;
  const PretrainingDataset data = dataset(options);
  const std::uint64_t n = data.num_samples();
  std::map<std::uint64_t, std::set<std::vector<std::int32_t>>> forms;
  std::size_t same_order = 0;
  for (std::uint64_t epoch = 0; epoch < 7; ++epoch) {
    for (std::uint64_t i = 0; i < n; ++i) {
      const SampleRef ref = data.shuffled(epoch * n + i);
      ASSERT_EQ(ref.epoch, epoch % 3);
      forms[ref.sample].insert(sample(data, ref).input_ids);
      same_order += epoch >= 3 && ref.sample == data.shuffled((epoch - 3) * n + i).sample;
    }
  }
  std::size_t three = 0;
  for (const auto& [ref, masked] : forms) {
    ASSERT_LE(masked.size(), 3u);
    three += masked.size() == 3;
  }
  EXPECT_GT(three, n / 2);
  EXPECT_LT(same_order, 4 * 10u);  // the order is a new one each time
}

TEST_F(PretrainingDatasetTest, ShortSequences) {
  DatasetOptions options, whole;
  options.short_sequence_probability = 0.5;
  const PretrainingDataset data = dataset(options), plain = dataset(whole);
  EXPECT_GT(data.num_samples(), plain.num_samples() * 5 / 4);
  std::uint64_t tokens = 0;
  for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
    const SamplePlan plan = data.plan({0, i});
    EXPECT_EQ(plan.a_begin, tokens);
    tokens = plan.a_end;
  }
  EXPECT_EQ(tokens, (*corpus_)->shard(Split::train).num_tokens());
  options.short_sequence_probability = 1.5;
  EXPECT_THROW(dataset(options), InputError);
}

TEST_F(PretrainingDatasetTest, WholeWordsOfTheCorpusStayTogether) {
  const PretrainingDataset data = dataset({});
  // Words are two tokens, odd id first (counting starts at 5), except at odd ends of sentences.
  for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
    const SamplePlan plan = data.plan({0, i});
    const Batch batch = sample(data, {0, i});
    const std::set<std::int32_t> rows(batch.masked_rows.begin(), batch.masked_rows.end());
    for (std::uint64_t token = plan.a_begin + 1; token < plan.a_end; ++token) {
      if ((*corpus_)->shard(Split::train).starts_word(token)) continue;
      const auto row = static_cast<std::int32_t>(token - plan.a_begin + 1);
      ASSERT_EQ(rows.contains(row), rows.contains(row - 1));
    }
  }
}

TEST_F(PretrainingDatasetTest, AuditCountsWhatIsThere) {
  DatasetOptions options;
  options.next_sentence = true;
  const PretrainingDataset data = dataset(options);
  const DatasetAudit audit = audit_dataset(data, 1 << 20);
  ASSERT_EQ(audit.samples, data.num_samples());
  std::uint64_t tokens = 0, predicted = 0, random = 0;
  std::int64_t longest = 0;
  for (std::uint64_t i = 0; i < data.num_samples(); ++i) {
    const Batch batch = sample(data, {0, i});
    tokens += static_cast<std::uint64_t>(batch.num_tokens());
    longest = std::max(longest, batch.num_tokens());
    predicted += batch.masked_rows.size();
    random += batch.sequence_labels[0] == 1;
  }
  EXPECT_EQ(audit.tokens, tokens);
  EXPECT_EQ(audit.predicted, predicted);
  EXPECT_EQ(audit.masked + audit.replaced + audit.kept, predicted);
  EXPECT_EQ(audit.random_next, random);
  EXPECT_EQ(audit.lengths.longest, longest);
  EXPECT_NEAR(audit.lengths.mean * static_cast<double>(audit.samples), static_cast<double>(tokens),
              1e-6);
  EXPECT_GT(audit.words, 0u);
  EXPECT_EQ(audit.words, audit.whole_words);
  EXPECT_NEAR(static_cast<double>(audit.masked), 0.8 * static_cast<double>(predicted),
              5 * std::sqrt(0.16 * static_cast<double>(predicted)));
  options.masking.masking = Masking::token;
  const DatasetAudit torn = audit_dataset(dataset(options), 50);
  EXPECT_EQ(torn.samples, 50u);
  EXPECT_LT(torn.whole_words, torn.words);
}

TEST_F(PretrainingDatasetTest, SamplesAreShownWithTheirMasks) {
  const PretrainingDataset data = dataset({});
  const SamplePlan plan = data.plan({0, 0});
  const std::string text = describe_sample(data, *tokenizer_, plan.ref);
  EXPECT_TRUE(text.starts_with("[CLS] ")) << text;
  EXPECT_TRUE(text.ends_with(" [SEP]")) << text;
  const Batch batch = sample(data, plan.ref);
  ASSERT_FALSE(batch.masked_rows.empty());
  for (std::size_t i = 0; i < batch.masked_rows.size(); ++i) {
    const std::int32_t shown = batch.input_ids[static_cast<std::size_t>(batch.masked_rows[i])];
    const std::string target(tokenizer_->piece(batch.masked_targets[i]));
    const std::string expected =
        shown == 4 ? "[" + target + "]"
        : shown == batch.masked_targets[i]
            ? "[" + target + "=]"
            : "[" + target + "=>" + std::string(tokenizer_->piece(shown)) + "]";
    EXPECT_NE(text.find(expected), std::string::npos) << expected << " in " << text;
  }
}

TEST_F(PretrainingDatasetTest, OptionsOutOfRange) {
  DatasetOptions options;
  options.sequence_length = 7;
  EXPECT_THROW(dataset(options), InputError);
  options.sequence_length = 128;
  options.masking.fraction = 2;
  EXPECT_THROW(dataset(options), InputError);
}

TEST(PretrainingDataset, NextSentenceNeedsTwoDocuments) {
  const TemporaryFolder folder;
  const auto documents = counting_documents({{5, 5}, {5, 5}});
  const auto tokenizer = number_tokenizer(100);
  const auto corpus = write_corpus(folder / "c", tokenizer, documents);
  DatasetOptions options;
  EXPECT_EQ(PretrainingDataset(corpus, Split::train, options).num_samples(), 1u);
  options.next_sentence = true;
  EXPECT_THROW(PretrainingDataset(corpus, Split::train, options), InputError);
}

TEST(PretrainingDataset, AnEmptyPartIsRefused) {
  const TemporaryFolder folder;
  CorpusWriterOptions options;
  options.validation_fraction = 0;
  const auto corpus =
      write_corpus(folder / "c", number_tokenizer(100), counting_documents({{5}, {5}}), options);
  EXPECT_THROW(PretrainingDataset(corpus, Split::validation, {}), InputError);
}

// Samples of one or two tokens: no room for a boundary anywhere.
TEST(PretrainingDataset, TinySamplesWithNextSentence) {
  const TemporaryFolder folder;
  CorpusWriterOptions writer;
  writer.validation_fraction = 0;
  const auto corpus = write_corpus(folder / "c", number_tokenizer(100),
                                   counting_documents({{1}, {2}, {1, 1}, {3}}), writer);
  DatasetOptions options;
  options.next_sentence = true;
  options.sequence_length = 8;
  const PretrainingDataset data(corpus, Split::train, options);
  PretrainingDataset::Scratch scratch;
  for (std::uint64_t i = 0; i < 400; ++i) {
    Batch batch;
    const SamplePlan plan = data.plan(data.shuffled(i));
    data.append(plan, 0, batch, scratch);
    EXPECT_LT(plan.a_begin, plan.a_end);
    EXPECT_LT(plan.b_begin, plan.b_end);
    // A single token is followed by something random.
    if (plan.a_begin == 0) {
      EXPECT_EQ(plan.next_label, 1);
    }
  }
}

}  // namespace
}  // namespace bert
