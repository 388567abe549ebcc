#include "data/shards/corpus.h"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "data/samples/pretraining_dataset.h"
#include "data/shards/corpus_preparation.h"
#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// Every file under `folder`, by its path there.
class CorpusTest : public testing::Test {
 protected:
  std::shared_ptr<const Corpus> counting_corpus(const CorpusWriterOptions& options = {}) {
    const auto documents = counting_documents(varied_lengths(100));
    return write_corpus(folder_ / "corpus", number_tokenizer(vocabulary_for(documents)), documents,
                        options);
  }
  TemporaryFolder folder_;
};

TEST_F(CorpusTest, RoundTrip) {
  CorpusWriterOptions options;
  options.sequence_lengths = {64};
  options.validation_fraction = 0.2;
  options.seed = 5;
  const auto documents = counting_documents(varied_lengths(100));
  const auto corpus = counting_corpus(options);
  corpus->verify();
  const CorpusManifest& manifest = corpus->manifest();
  EXPECT_EQ(manifest.validation_fraction, 0.2);
  EXPECT_EQ(manifest.seed, 5u);
  EXPECT_EQ(manifest.vocab_size, vocabulary_for(documents));
  EXPECT_EQ(manifest.special.mask, 4);
  EXPECT_EQ(corpus->tokenizer()->fingerprint(), manifest.tokenizer_fingerprint);
  EXPECT_TRUE(corpus->cuts(Split::train, {Sampling::sentences, 62}).mapped());
  EXPECT_TRUE(corpus->cuts(Split::train, {Sampling::sentences, 61}).mapped());
  EXPECT_TRUE(corpus->cuts(Split::validation, {Sampling::chunks, 62}).mapped());
  EXPECT_FALSE(corpus->cuts(Split::train, {Sampling::sentences, 63}).mapped());

  CorpusCounts total;
  std::vector<TokenizedDocument> read;
  for (const Split split : {Split::train, Split::validation}) {
    const CorpusCounts& counts = manifest.splits[static_cast<std::size_t>(split)];
    const TokenShard& shard = corpus->shard(split);
    EXPECT_EQ(counts.documents, shard.num_documents());
    EXPECT_EQ(counts.sentences, shard.num_sentences());
    EXPECT_EQ(counts.tokens, shard.num_tokens());
    total += counts;
    for (std::uint64_t i = 0; i < shard.num_documents(); ++i) read.push_back(shard.document(i));
  }
  EXPECT_EQ(total.words, manifest.sources[0].counts.words);
  EXPECT_EQ(total.documents, documents.size());
  // Both parts keep the order of the input, and nothing is lost or changed.
  std::sort(read.begin(), read.end(), [](const auto& a, const auto& b) { return a.ids < b.ids; });
  for (std::size_t i = 0; i < documents.size(); ++i) {
    EXPECT_EQ(read[i].ids, documents[i].ids);
    EXPECT_EQ(read[i].word_starts, documents[i].word_starts);
    EXPECT_EQ(read[i].sentence_ends, documents[i].sentence_ends);
  }
}

TEST_F(CorpusTest, SplitIsByDocumentWithTheFractionAskedFor) {
  std::vector<std::vector<std::uint32_t>> lengths(20'000, {1});
  auto documents = counting_documents(lengths);
  const auto tokenizer = number_tokenizer(vocabulary_for(documents));
  for (const double fraction : {0.05, 0.5}) {
    CorpusWriterOptions options;
    options.sequence_lengths = {};
    options.validation_fraction = fraction;
    const auto corpus = write_corpus(folder_ / "corpus", tokenizer, documents, options);
    const double deviation = std::sqrt(20'000 * fraction * (1 - fraction));
    EXPECT_NEAR(static_cast<double>(corpus->shard(Split::validation).num_documents()),
                20'000 * fraction, 5 * deviation);
    // A pure function of seed and document: the same again, and a prefix of the input splits alike.
    const auto validation = corpus->shard(Split::validation).document(0).ids;
    auto prefix = documents;
    prefix.resize(10'000);
    const auto shorter = write_corpus(folder_ / "shorter", tokenizer, prefix, options);
    EXPECT_EQ(shorter->shard(Split::validation).document(0).ids, validation);
    options.seed = 1;
    const auto other = write_corpus(folder_ / "other", tokenizer, documents, options);
    std::size_t alike = 0;
    for (std::uint64_t i = 0; i < 500; ++i) {
      alike += other->shard(Split::validation).document(i).ids ==
               corpus->shard(Split::validation).document(i).ids;
    }
    EXPECT_LT(alike, 100u);
  }
}

TEST_F(CorpusTest, BothPartsGetADocument) {
  const auto tokenizer = number_tokenizer(1000);
  for (const double fraction : {1e-12, 0.05, 0.999999999999}) {
    for (std::size_t count = 2; count < 6; ++count) {
      const auto documents =
          counting_documents(std::vector<std::vector<std::uint32_t>>(count, {3, 2}));
      CorpusWriterOptions options;
      options.validation_fraction = fraction;
      const auto corpus = write_corpus(folder_ / "corpus", tokenizer, documents, options);
      corpus->verify();
      const TokenShard &train = corpus->shard(Split::train),
                       &validation = corpus->shard(Split::validation);
      EXPECT_GE(train.num_documents(), 1u);
      EXPECT_GE(validation.num_documents(), 1u);
      EXPECT_EQ(train.num_documents() + validation.num_documents(), count);
      EXPECT_EQ(corpus->manifest().splits[0].words + corpus->manifest().splits[1].words, 3 * count);
    }
  }
}

TEST_F(CorpusTest, ASingleDocumentCannotBeSplit) {
  const auto tokenizer = number_tokenizer(100);
  const auto documents = counting_documents({{5}});
  const std::string message =
      refusal([&] { write_corpus(folder_ / "corpus", tokenizer, documents); });
  EXPECT_TRUE(contains(message, "single document")) << message;
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  CorpusWriterOptions options;
  options.validation_fraction = 0;
  EXPECT_EQ(write_corpus(folder_ / "corpus", tokenizer, documents, options)
                ->shard(Split::validation)
                .num_documents(),
            0u);
}

TEST_F(CorpusTest, BitFlipsInEveryFileAreCaught) {
  counting_corpus();
  const fs::path corpus = folder_ / "corpus";
  const auto files = contents(corpus);
  ASSERT_TRUE(fs::exists(corpus / "train" / "tokens.bin"));
  ASSERT_GE(files.size(), 1 + 2 * (4 + 6) + 4 + 3u);  // with three folders
  PhiloxStream random(1, 1, 1);
  for (const auto& [file, content] : files) {
    if (fs::is_directory(corpus / file)) continue;
    for (int trial = 0; trial < 12; ++trial) {
      const std::uint64_t bit = random.next_below(static_cast<std::uint32_t>(8 * content.size()));
      flip_bit(corpus / file, bit);
      const std::string message = refusal([&] { Corpus(corpus).verify(); });
      // The message names the file, or for a tokenizer file the folder.
      EXPECT_TRUE(contains(message, fs::path(file).parent_path().string()) &&
                  (contains(message, file) || file.starts_with("tokenizer/")))
          << file << " bit " << bit << ": " << message;
      flip_bit(corpus / file, bit);
    }
  }
  Corpus(corpus).verify();  // all is well again
}

TEST_F(CorpusTest, TruncatedAndMissingFilesAreCaught) {
  counting_corpus();
  const fs::path corpus = folder_ / "corpus";
  for (const auto& [file, content] : contents(corpus)) {
    if (fs::is_directory(corpus / file)) continue;
    write_text(corpus / file, content.substr(0, content.size() / 2));
    refusal([&] { Corpus(corpus).verify(); });
    fs::remove(corpus / file);
    refusal([&] { Corpus(corpus).verify(); });
    write_text(corpus / file, content);
  }
  Corpus(corpus).verify();
}

// Each file is sound by itself and of the right size, but not the one that belongs here.
TEST_F(CorpusTest, FilesOfAnotherCorpusAreCaught) {
  auto documents = counting_documents(varied_lengths(100));
  const auto tokenizer = number_tokenizer(vocabulary_for(documents));
  write_corpus(folder_ / "corpus", tokenizer, documents);
  for (TokenizedDocument& document : documents) {
    std::reverse(document.ids.begin(), document.ids.end());
    document.word_starts.assign(document.ids.size(), 1);
  }
  write_corpus(folder_ / "other", tokenizer, documents);
  CorpusWriterOptions options;
  options.seed = 1;
  write_corpus(folder_ / "resplit", tokenizer, documents, options);
  for (const auto& [file, from] :
       {std::pair{"train/tokens.bin", "other"}, std::pair{"train/words.bin", "other"},
        std::pair{"train/sentences.bin", "resplit"},
        std::pair{"train/cuts_chunks_126.bin", "resplit"}}) {
    const std::string mine = read_file(folder_ / "corpus" / file);
    write_text(folder_ / "corpus" / file, read_file(folder_ / from / file));
    refusal([&] { Corpus(folder_ / "corpus").verify(); });
    if (std::string_view(file).ends_with("chunks_126.bin")) {
      refusal([&] { Corpus(folder_ / "corpus").cuts(Split::train, {Sampling::chunks, 126}); });
    } else {
      refusal([&] { Corpus(folder_ / "corpus"); });
    }
    write_text(folder_ / "corpus" / file, mine);
  }
  Corpus(folder_ / "corpus").verify();
}

TEST_F(CorpusTest, NoCorpusThere) {
  EXPECT_TRUE(contains(refusal([&] { Corpus(folder_ / "none"); }), "does not exist"));
  EXPECT_TRUE(contains(refusal([&] { Corpus(folder_.path()); }), "manifest.json"));
  write_text(folder_ / "file", "text");
  EXPECT_TRUE(contains(refusal([&] { Corpus(folder_ / "file"); }), "not a folder"));
  write_text(folder_ / "manifest.json", "{\"format\": \"something else\"}");
  EXPECT_TRUE(contains(refusal([&] { Corpus(folder_.path()); }), "not the manifest of a corpus"));
}

TEST_F(CorpusTest, AnotherTokenizerIsRefused) {
  const auto corpus = counting_corpus();
  corpus->check_tokenizer(*corpus->tokenizer());
  const std::string message = refusal([&] { corpus->check_tokenizer(number_tokenizer(100)); });
  EXPECT_TRUE(contains(message, corpus->manifest().tokenizer_fingerprint)) << message;
}

TEST_F(CorpusTest, ForeignFoldersAreLeftAlone) {
  fs::create_directories(folder_ / "corpus");
  counting_corpus();  // an empty folder is taken
  const auto before = contents(folder_ / "corpus");
  CorpusWriterOptions options;
  options.seed = 9;
  counting_corpus(options);  // a corpus is replaced
  EXPECT_NE(contents(folder_ / "corpus"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), fs::directory_iterator()), 1);

  fs::create_directories(folder_ / "photos");
  write_text(folder_ / "photos" / "manifest.json", "{}");
  const auto tokenizer = number_tokenizer(100);
  refusal([&] { CorpusWriter(folder_ / "photos", tokenizer, {}); });
  refusal([&] { CorpusWriter(folder_ / "photos" / "manifest.json", tokenizer, {}); });
  EXPECT_EQ(contents(folder_ / "photos").size(), 1u);
}

TEST_F(CorpusTest, WriterOptionsOutOfRange) {
  const auto tokenizer = number_tokenizer(100);
  const auto refused = [&](CorpusWriterOptions options) {
    refusal([&] { CorpusWriter(folder_ / "corpus", tokenizer, options); });
  };
  refused({-0.1, 0, {128}});
  refused({1.0, 0, {128}});
  refused({std::nan(""), 0, {128}});
  refused({0.05, 0, {7}});
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

}  // namespace
}  // namespace bert
