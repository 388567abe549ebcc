#include "data/shards/corpus_preparation.h"

#include <algorithm>
#include <chrono>
#include <csignal>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/shards/corpus.h"
#include "tests/data/corpus_fixture.h"
#include "tests/data/few_threads.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// A vocabulary of letters, and text of which it knows all but "?".
WordpieceTokenizer letter_tokenizer() {
  std::vector<std::string> pieces = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (char c = 'a'; c <= 'z'; ++c) {
    pieces.push_back(std::string(1, c));
    pieces.push_back("##" + std::string(1, c));
  }
  return WordpieceTokenizer(std::move(pieces), wordpiece_options(false));
}

std::string random_text(std::uint64_t seed, int documents) {
  PhiloxStream random(seed, 3, 0);
  std::string text;
  for (int document = 0; document < documents; ++document) {
    for (std::uint32_t line = 0; line <= random.next_below(8); ++line) {
      for (std::uint32_t word = 0; word <= random.next_below(15); ++word) {
        for (std::uint32_t letter = 0; letter <= random.next_below(6); ++letter) {
          text += static_cast<char>('a' + random.next_below(26));
        }
        text += random.next_below(50) == 0 ? " ? " : " ";
      }
      text += '\n';
    }
    text += '\n';
  }
  return text;
}

class PreparationTest : public testing::Test {
 protected:
  PreparationOptions two_files() {
    write_text(folder_ / "a.txt", random_text(1, 8000));
    write_text(folder_ / "b.txt", random_text(2, 500));
    PreparationOptions options;
    options.files = {(folder_ / "a.txt").string(), (folder_ / "b.txt").string()};
    options.output = folder_ / "corpus";
    return options;
  }

  TemporaryFolder folder_;
};

TEST_F(PreparationTest, TextBecomesTokens) {
  const auto tokenizer = letter_tokenizer();
  write_text(folder_ / "a.txt", "One two\nthree\n\n\n four? \n\xef\xbf\xbd\n");
  write_text(folder_ / "b.txt", "FIVE");
  PreparationOptions options;
  options.files = {(folder_ / "a.txt").string(), (folder_ / "b.txt").string()};
  options.output = folder_ / "corpus";
  const PreparationReport report = prepare_corpus(tokenizer, options);
  EXPECT_EQ(report.counts.documents, 3u);
  EXPECT_EQ(report.counts.sentences, 4u);  // the line of U+FFFD has no token
  EXPECT_EQ(report.counts.words, 6u);      // "?" among them
  EXPECT_EQ(report.counts.tokens, 3 + 3 + 5 + 4 + 1 + 4u);
  EXPECT_EQ(report.counts.unknown, 1u);
  ASSERT_EQ(report.unknown_words.size(), 1u) << report.unknown_words[1].first;
  EXPECT_EQ(report.unknown_words[0], (std::pair<std::string, std::uint64_t>{"?", 1}));
  ASSERT_EQ(report.manifest.sources.size(), 2u);
  EXPECT_EQ(report.manifest.sources[0].name, (folder_ / "a.txt").string());
  EXPECT_EQ(report.manifest.sources[0].counts.documents, 2u);
  EXPECT_EQ(report.manifest.sources[1].counts.tokens, 4u);

  const Corpus corpus(folder_ / "corpus");
  corpus.verify();
  std::vector<std::string> read;
  for (const Split split : {Split::train, Split::validation}) {
    for (std::uint64_t i = 0; i < corpus.shard(split).num_documents(); ++i) {
      read.push_back(tokenizer.decode(corpus.shard(split).document(i).ids));
    }
  }
  std::sort(read.begin(), read.end());
  EXPECT_EQ(read, (std::vector<std::string>{"five", "four [UNK]", "one two three"}));
}

// Between lines, where it has at least so many bytes.
TEST_F(PreparationTest, LongDocumentsAreCut) {
  write_text(folder_ / "a.txt", "one two\nthree\nfour\nfive\nsix\n\nseven\n");
  PreparationOptions options;
  options.files = {(folder_ / "a.txt").string()};
  options.output = folder_ / "corpus";
  options.max_document_bytes = 10;
  const PreparationReport report = prepare_corpus(letter_tokenizer(), options);
  EXPECT_EQ(report.counts.documents, 3u);  // after "three", after "six"
  EXPECT_EQ(report.counts.sentences, 6u);
  EXPECT_EQ(report.text.cut_documents, 2u);
}

TEST_F(PreparationTest, ThreadsChangeNothing) {
  const auto tokenizer = letter_tokenizer();
  PreparationOptions options = two_files();
  const PreparationReport report = prepare_corpus(tokenizer, options);
  EXPECT_EQ(report.counts.documents, 8500u);
  EXPECT_GT(report.counts.unknown, 0u);
  const auto expected = contents(options.output);
  for (options.threads = 2; options.threads <= 5; ++options.threads) {
    const PreparationReport again = prepare_corpus(tokenizer, options);
    EXPECT_EQ(again.unknown_words, report.unknown_words);
    EXPECT_EQ(contents(options.output), expected) << options.threads << " threads";
  }
}

TEST_F(PreparationTest, ProgressReachesTheEnd) {
  PreparationOptions options = two_files();
  using Phase = PreparationProgress::Phase;
  PreparationProgress last, tokenizing;
  options.progress = [&](const PreparationProgress& now) {
    EXPECT_GE(now.phase, last.phase);
    if (now.phase == last.phase) {
      EXPECT_GE(now.done, last.done);
    }
    last = now;
    if (now.phase == Phase::tokenizing) tokenizing = now;
  };
  const PreparationReport report = prepare_corpus(letter_tokenizer(), options);
  EXPECT_EQ(tokenizing.done, tokenizing.total);
  EXPECT_EQ(tokenizing.total, fs::file_size(options.files[0]) + fs::file_size(options.files[1]));
  EXPECT_EQ(tokenizing.tokens, report.counts.tokens);
  EXPECT_EQ(tokenizing.documents, report.counts.documents);
  EXPECT_EQ(last.phase, Phase::finishing);
}

TEST_F(PreparationTest, FailureLeavesNothingBehind) {
  PreparationOptions options = two_files();
  write_text(folder_ / "bad.txt", "fine\n\nnot \xff fine\n");
  options.files.push_back((folder_ / "bad.txt").string());
  options.text.refuse_invalid_utf8 = true;
  const auto before = contents(folder_.path());
  const std::string message = refusal([&] { prepare_corpus(letter_tokenizer(), options); });
  EXPECT_TRUE(contains(message, "bad.txt:3")) << message;
  EXPECT_EQ(contents(folder_.path()), before);
  EXPECT_FALSE(fs::exists(options.output));

  options.text.refuse_invalid_utf8 = false;
  EXPECT_EQ(prepare_corpus(letter_tokenizer(), options).text.invalid_utf8, 1u);
  options.files.push_back((folder_ / "none.txt").string());
  refusal([&] { prepare_corpus(letter_tokenizer(), options); });
  EXPECT_TRUE(fs::exists(options.output));  // the corpus that was there stays
}

// What was finished before a bad file is kept, said to be, and taken up.
TEST_F(PreparationTest, FailureKeepsWhatIsFinished) {
  PreparationOptions options = two_files();
  options.part_bytes = 20'000;
  const auto tokenizer = letter_tokenizer();
  prepare_corpus(tokenizer, options);
  const auto expected = contents(options.output);
  fs::remove_all(options.output);

  const std::string good = read_file(folder_ / "b.txt");
  write_text(folder_ / "b.txt", good + "\xff\n");
  options.text.refuse_invalid_utf8 = true;
  const std::string message = refusal([&] { prepare_corpus(tokenizer, options); });
  EXPECT_TRUE(contains(message, "b.txt:")) << message;
  EXPECT_TRUE(contains(message, "corpus.partial")) << message;
  EXPECT_FALSE(fs::exists(options.output));
  EXPECT_TRUE(fs::exists(partial_folder(options.output)));

  // Another size and time: the parts of this file are made anew, those of the other are taken.
  write_text(folder_ / "b.txt", good);
  const PreparationReport report = prepare_corpus(tokenizer, options);
  EXPECT_EQ(report.text.files, 2u);
  EXPECT_GT(report.parts_resumed, 0u);
  EXPECT_LT(report.parts_resumed, report.parts);
  EXPECT_EQ(contents(options.output), expected);
  EXPECT_FALSE(fs::exists(partial_folder(options.output)));
}

// What came through a pipe cannot be taken up again: nothing of it is kept, nor said to be.
TEST_F(PreparationTest, FailureKeepsNothingOfAPipe) {
  write_text(folder_ / "a.txt", "one two\n\nthree\n");
  const int saved = ::dup(STDIN_FILENO);
  const int opened = ::open((folder_ / "a.txt").c_str(), O_RDONLY);
  ASSERT_EQ(::dup2(opened, STDIN_FILENO), STDIN_FILENO);
  ::close(opened);
  PreparationOptions options;
  options.files = {"-"};
  options.output = folder_ / "corpus";
  options.progress = [](const PreparationProgress& progress) {
    if (progress.phase == PreparationProgress::Phase::finishing) throw_runtime_error("stopped");
  };
  std::string message;
  try {
    prepare_corpus(letter_tokenizer(), options);
  } catch (const RuntimeError& error) {
    message = error.what();
  }
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  EXPECT_EQ(message, "stopped");
  EXPECT_FALSE(fs::exists(partial_folder(options.output)));
}

// The same file twice is read once, and is in the corpus twice.
TEST_F(PreparationTest, TakesAFileTwice) {
  PreparationOptions options = two_files();
  const PreparationReport once = prepare_corpus(letter_tokenizer(), options);
  options.files.push_back(options.files[1]);
  const PreparationReport twice = prepare_corpus(letter_tokenizer(), options);
  EXPECT_EQ(twice.counts.documents, once.counts.documents + 500);
  EXPECT_EQ(twice.text.files, 3u);
}

TEST_F(PreparationTest, SaysThatAThreadCannotBeStarted) {
  PreparationOptions options = two_files();
  options.threads = 4;
  const auto tokenizer = letter_tokenizer();
  expect_refused_with_one_thread([&] { prepare_corpus(tokenizer, options); });
  EXPECT_FALSE(fs::exists(options.output));
}

// Killed at any moment, many times, it ends with the same bytes.
TEST_F(PreparationTest, KilledAtAnyMoment) {
  PreparationOptions options = two_files();
  options.part_bytes = 50'000;
  options.threads = 2;
  options.drop_duplicates = DropDuplicates::lines;
  const auto tokenizer = letter_tokenizer();
  const auto begin = std::chrono::steady_clock::now();
  prepare_corpus(tokenizer, options);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - begin);
  const auto expected = contents(options.output);
  fs::remove_all(options.output);

  PhiloxStream random(11, 1, 0);
  const fs::path parts = partial_folder(options.output) / "parts";
  int killed = 0, finished_parts = 0;
  while (!fs::exists(options.output / "manifest.json")) {
    ASSERT_LT(killed, 500);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      prepare_corpus(tokenizer, options);
      ::_exit(0);
    }
    // A small share of the time that it takes, and longer and longer, so that it comes to an end.
    const auto most = whole.count() * (8 + killed) / 50;
    ::usleep(random.next_below(static_cast<std::uint32_t>(most)));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    ++killed;
    if (fs::exists(options.output) || !fs::exists(parts)) continue;
    int finished = 0;
    for (const auto& part : fs::directory_iterator(parts)) {
      finished += fs::exists(part.path() / "part.json") ? 1 : 0;
    }
    EXPECT_GE(finished, finished_parts) << "a finished part was lost";
    finished_parts = finished;
  }
  EXPECT_GT(killed, 3);
  EXPECT_GT(finished_parts, 3);
  EXPECT_EQ(contents(options.output), expected);
  // What a kill after the end may have left is cleared away by the next call.
  prepare_corpus(tokenizer, options);
  EXPECT_EQ(contents(options.output), expected);
  EXPECT_FALSE(fs::exists(partial_folder(options.output)));
}

TEST_F(PreparationTest, OtherOptionsStartAfresh) {
  PreparationOptions options = two_files();
  options.part_bytes = 20'000;
  const auto tokenizer = letter_tokenizer();
  bool stop = true;
  options.progress = [&](const PreparationProgress& progress) {
    if (stop && progress.phase != PreparationProgress::Phase::tokenizing) {
      throw_runtime_error("stopped");
    }
  };
  EXPECT_THROW(prepare_corpus(tokenizer, options), RuntimeError);
  stop = false;
  options.text.min_line_chars = 20;
  const PreparationReport report = prepare_corpus(tokenizer, options);
  EXPECT_EQ(report.parts_resumed, 0u);
  EXPECT_EQ(report.parts_outdated, report.parts);
  EXPECT_GT(report.manifest.dropped.short_lines, 0u);
}

TEST_F(PreparationTest, DuplicatesAndShortDocumentsAreDropped) {
  write_text(folder_ / "a.txt", "one two\nthree\n\nfour\n\none two\nthree\n\nfive\nthree\n");
  write_text(folder_ / "b.txt", "four\n\none two\n\nsix seven eight\n");
  PreparationOptions options;
  options.files = {(folder_ / "a.txt").string(), (folder_ / "b.txt").string()};
  options.output = folder_ / "corpus";
  options.writer.validation_fraction = 0;
  const auto tokenizer = letter_tokenizer();
  const auto documents = [&] {
    const Corpus corpus(options.output);
    const TokenShard& shard = corpus.shard(Split::train);
    std::vector<std::string> texts;
    for (std::uint64_t i = 0; i < shard.num_documents(); ++i) {
      texts.push_back(tokenizer.decode(shard.document(i).ids));
    }
    return texts;
  };
  using Texts = std::vector<std::string>;
  for (const std::size_t budget : {std::size_t{24}, std::size_t{1} << 20}) {
    options.duplicates_budget = budget;  // of one hash at a time, or of all
    options.drop_duplicates = DropDuplicates::documents;
    EXPECT_EQ(prepare_corpus(tokenizer, options).manifest.dropped.duplicate_documents, 2u);
    EXPECT_EQ(documents(),
              (Texts{"one two three", "four", "five three", "one two", "six seven eight"}));
    options.drop_duplicates = DropDuplicates::lines;
    EXPECT_EQ(prepare_corpus(tokenizer, options).manifest.dropped.duplicate_lines, 5u);
    EXPECT_EQ(documents(), (Texts{"one two three", "four", "five", "six seven eight"}));
  }
  options.min_document_words = 2;
  EXPECT_EQ(prepare_corpus(tokenizer, options).manifest.dropped.short_documents, 2u);
  EXPECT_EQ(documents(), (Texts{"one two three", "six seven eight"}));
}

TEST_F(PreparationTest, TwoAtOnceAreRefused) {
  PreparationOptions options = two_files();
  std::string message;
  options.progress = [&](const PreparationProgress&) {
    if (!message.empty()) return;
    PreparationOptions second = options;
    second.progress = {};
    try {
      prepare_corpus(letter_tokenizer(), second);
    } catch (const RuntimeError& error) {
      message = error.what();
    }
  };
  prepare_corpus(letter_tokenizer(), options);
  EXPECT_TRUE(contains(message, "another prepare_corpus")) << message;
}

TEST_F(PreparationTest, TooManyUnknownWordsAreRefused) {
  PreparationOptions options = two_files();
  options.max_unknown_rate = 0.001;
  const std::string message = refusal([&] { prepare_corpus(letter_tokenizer(), options); });
  EXPECT_TRUE(contains(message, "the commonest are ? (")) << message;
  EXPECT_FALSE(fs::exists(options.output));
}

TEST_F(PreparationTest, OnlySpacesAndUnknownScriptsAreReported) {
  write_text(folder_ / "a.txt", "??? ??\n\n? ?\n");
  PreparationOptions options;
  options.files = {(folder_ / "a.txt").string()};
  options.output = folder_ / "corpus";
  const PreparationReport report = prepare_corpus(letter_tokenizer(), options);
  EXPECT_EQ(report.counts.unknown, report.counts.words);
  options.threads = 0;
  refusal([&] { prepare_corpus(letter_tokenizer(), options); });
}

}  // namespace
}  // namespace bert
