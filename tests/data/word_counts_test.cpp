#include "data/tokenization/word_counts.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/tokenization/vocab_trainer.h"
#include "data/tokenization/word_collection.h"
#include "data/tokenization/word_table.h"
#include "runtime/error.h"
#include "runtime/philox.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

class WordCountsTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
};

TEST_F(WordCountsTest, CountsNormalisedWords) {
  write_text(folder_ / "a.txt", "The cat, the C\u00c1T.\n\nthe\n");
  write_text(folder_ / "b.txt", "cat\n");
  const WordCounts counts =
      count_words({(folder_ / "a.txt").string(), (folder_ / "b.txt").string()}, {}, {.threads = 2});
  const std::vector<std::pair<std::string, std::uint64_t>> expected{
      {"cat", 3}, {"the", 3}, {",", 1}, {".", 1}};
  EXPECT_EQ(counts.words, expected);
  EXPECT_EQ(counts.total, 8u);
  EXPECT_EQ(counts.text.files, 2u);
  EXPECT_THROW(count_words({(folder_ / "none.txt").string()}, {}, {.threads = 2}), InputError);
}

TEST_F(WordCountsTest, DoesNotDependOnTheNumberOfThreads) {
  PhiloxStream random(8, 0, 0);
  std::string text;
  while (text.size() < (std::size_t{2} << 20)) {
    text += std::to_string(random.next_below(1 << (4 + random.next_below(12))));
    text += random.next_below(12) == 0 ? "\n" : " ";
  }
  write_text(folder_ / "a.txt", text);
  const std::vector<std::string> files{(folder_ / "a.txt").string()};
  const WordCounts one = count_words(files, {}, {.threads = 1});
  EXPECT_GT(one.words.size(), 10000u);
  VocabTrainerOptions options;
  options.vocab_size = 2000;
  const TrainedVocab vocab = train_wordpiece(one, options);
  EXPECT_EQ(vocab.pieces.size(), 2000u);
  for (const int threads : {2, 3, 7}) {
    const WordCounts several = count_words(files, {}, {.threads = threads});
    EXPECT_EQ(several.words, one.words);
    EXPECT_EQ(several.total, one.total);
    EXPECT_EQ(train_wordpiece(several, options).pieces, vocab.pieces);
  }
}

std::string random_words(std::size_t bytes) {
  PhiloxStream random(9, 0, 0);
  std::string text;
  while (text.size() < bytes) {
    text += std::to_string(random.next_below(1 << (4 + random.next_below(14))));
    text += random.next_below(12) == 0 ? "\n" : " ";
  }
  return text;
}

// However little memory there is, and so however many files: the counts are exact.
TEST_F(WordCountsTest, CountsExactlyInBoundedMemory) {
  write_text(folder_ / "a.txt", random_words(std::size_t{1} << 20));
  const std::vector<std::string> files{(folder_ / "a.txt").string()};
  const WordCounts all = count_words(files, {}, {.threads = 2});
  ASSERT_GT(all.words.size(), 20000u);
  EXPECT_EQ(all.distinct, all.words.size());
  EXPECT_EQ(all.left_out, 0u);
  for (const std::size_t memory : {std::size_t{1}, std::size_t{1} << 19}) {
    const WordCounts spilled = count_words(files, {}, {.threads = 2, .memory_bytes = memory});
    EXPECT_EQ(spilled.words, all.words);
    EXPECT_EQ(spilled.total, all.total);
  }
}

TEST_F(WordCountsTest, KeepsTheMostFrequentWords) {
  write_text(folder_ / "a.txt", "b b b c c a a d d e\n" + std::string(50, 'x') + "\n");
  const std::vector<std::string> files{(folder_ / "a.txt").string()};
  using Words = std::vector<std::pair<std::string, std::uint64_t>>;
  for (const std::size_t memory : {std::size_t{1}, std::size_t{1} << 20}) {
    WordCountOptions options{.threads = 2, .memory_bytes = memory, .max_words = 3};
    options.max_word_bytes = 49;
    const WordCounts counts = count_words(files, {}, options);
    EXPECT_EQ(counts.words, (Words{{"b", 3}, {"a", 2}, {"c", 2}}));
    EXPECT_EQ(counts.distinct, 5u);
    EXPECT_EQ(counts.left_out, 3u);  // d d e
    EXPECT_EQ(counts.too_long, 1u);
    EXPECT_EQ(counts.total, 11u);
    options.max_words = 5;
    options.max_word_bytes = 50;
    EXPECT_EQ(count_words(files, {}, options).left_out, 1u);  // one of e and x is left out
  }
}

TEST(WordTable, AgreesWithAMap) {
  PhiloxStream random(10, 0, 0);
  WordTable table;
  std::map<std::string, std::uint64_t> expected;
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 50000; ++i) {
      const std::string word(random.next_below(3), static_cast<char>(random.next_below(256)));
      const std::string longer = word + std::to_string(random.next_below(9000));
      const std::uint64_t count = random.next_below(4);  // 0 adds nothing
      table.add(longer, count);
      if (count > 0) expected[longer] += count;
    }
    std::map<std::string, std::uint64_t> found;
    table.for_each([&](std::string_view word, std::uint64_t count, std::uint32_t hash) {
      EXPECT_EQ(hash, WordTable::hash(word));
      EXPECT_TRUE(found.emplace(word, count).second);
    });
    EXPECT_EQ(found, expected);
    EXPECT_EQ(table.size(), expected.size());
    table.clear();
    expected.clear();
    EXPECT_EQ(table.size(), 0u);
  }
}

// Over 64 files, so that they are merged on the way.
TEST(WordCollection, MergesManyFiles) {
  WordCollection collection(1);
  std::map<std::string, std::uint64_t> expected;
  for (std::uint64_t i = 0; i < 150; ++i) {
    WordTable table;
    for (std::uint64_t k = 0; k < 40; ++k) {
      const std::string word = std::to_string((i * 31 + k * k * 7) % 500);
      table.add(word, i + 1);
      expected[word] += i + 1;
    }
    collection.add(table);
    EXPECT_EQ(table.size(), 0u);
    EXPECT_LT(collection.files(), 64u);
  }
  const auto selection = collection.take(1000);
  EXPECT_EQ((std::map<std::string, std::uint64_t>(selection.words.begin(), selection.words.end())),
            expected);
  EXPECT_TRUE(std::is_sorted(selection.words.begin(), selection.words.end(), [](auto& a, auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  }));
}

TEST_F(WordCountsTest, ReportsThatATemporaryFileCannotBeWritten) {
  write_text(folder_ / "a.txt", "a b c\n");
  const char* const before = std::getenv("TMPDIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("TMPDIR", (folder_ / "none").c_str(), 1);
  for (const int threads : {1, 3}) {
    try {
      count_words({(folder_ / "a.txt").string()}, {}, {.threads = threads, .memory_bytes = 1});
      ADD_FAILURE() << "no error";
    } catch (const RuntimeError& error) {
      EXPECT_NE(std::string(error.what()).find("TMPDIR"), std::string::npos) << error.what();
    }
  }
  before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", kept.c_str(), 1);
}

// A damaged file is an error, not a hang, whatever the threads are doing.
TEST_F(WordCountsTest, ReportsErrorsOfTheReader) {
  write_text(folder_ / "good.txt", std::string(1 << 20, 'a') + "\n");
  write_text(folder_ / "bad.gz", "\x1f\x8b\x08 this is no gzip");
  for (const int threads : {1, 4}) {
    EXPECT_THROW(count_words({(folder_ / "good.txt").string(), (folder_ / "bad.gz").string()}, {},
                             {.threads = threads}),
                 InputError);
  }
}

}  // namespace
}  // namespace bert
