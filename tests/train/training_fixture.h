// Runs of the program `train` on a small corpus with a very small model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/types.h>

#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {

// The folder that the tests of one binary share: a corpus, its tokenizer, a configuration.
//
// The language: 48 topics of four words; a document is one topic, and a sentence walks round its
// words from a random one on. Knowing word frequencies only costs ln 192 = 5.26 a word; the topic
// is seen from any neighbour (ln 4 = 1.39 left), and the place in the round from a near one.
class TrainingWorld {
 public:
  static constexpr int kTopics = 48, kWordsPerTopic = 4;
  static constexpr int kVocabulary = 5 + kTopics * kWordsPerTopic;

  static const TrainingWorld& get();

  const std::filesystem::path& path() const { return folder_.path(); }
  std::filesystem::path config() const { return folder_ / "tiny.yaml"; }
  std::filesystem::path corpus() const { return folder_ / "corpus"; }
  std::filesystem::path tokenizer() const { return folder_ / "tokenizer"; }

 private:
  TrainingWorld();
  TemporaryFolder folder_;
};

// A tokenizer whose words are "w0", "w1", ..., and a corpus of the language above.
std::unique_ptr<Tokenizer> topic_tokenizer();
void write_topic_corpus(const std::filesystem::path& folder, std::uint64_t seed);

using Arguments = std::vector<std::string>;

class TrainingTest : public testing::Test {
 protected:
  // A command line of train: `more` are overrides and options, quoted here.
  std::string command(const std::filesystem::path& run_dir, const Arguments& more = {}) const;
  Answer train(const std::filesystem::path& run_dir, const Arguments& more = {}) const {
    return run(command(run_dir, more));
  }
  // The same under mpirun with `ranks` processes.
  Answer train_ranks(int ranks, const std::filesystem::path& run_dir,
                     const Arguments& more = {}) const;
  // Starts the run and kills it with SIGKILL once metrics.jsonl tells of `step`, which must be
  // before the last, and a checkpoint is safe. `ranks`: 0 starts it without mpirun.
  void train_and_kill(int ranks, std::int64_t step, const std::filesystem::path& run_dir,
                      const Arguments& more) const;

  // Starts a run under mpirun, sends `signal` to rank `victim` once `when` says so, and gives what
  // mpirun then answers and how many seconds after.
  std::pair<Answer, double> train_and_signal(int ranks, const std::filesystem::path& run_dir,
                                             const Arguments& more, int victim, int signal,
                                             const std::function<bool()>& when) const;
  // Starts a long run under mpirun, kills one of its ranks with SIGKILL, and gives what mpirun then
  // answers and how many seconds after.
  std::pair<Answer, double> train_and_kill_one(int ranks, const std::filesystem::path& run_dir,
                                               const Arguments& more) const;

  TemporaryFolder folder_;
};

// The records of a file such as metrics.jsonl.
std::vector<nlohmann::json> read_lines(const std::filesystem::path& path);
std::vector<nlohmann::json> read_metrics(const std::filesystem::path& run_dir);
// Without the one entry that differs from run to run.
std::vector<nlohmann::json> comparable_metrics(const std::filesystem::path& run_dir);
// "loss" of each step logged.
std::vector<double> losses(const std::filesystem::path& run_dir);
// The step of the last line of metrics.jsonl, 0 without one.
std::int64_t last_step(const std::filesystem::path& run_dir);
// The processes of `train` that work on `run_dir`, which no other run shares.
std::vector<pid_t> processes_of(const std::filesystem::path& run_dir);
std::filesystem::path checkpoint_of(const std::filesystem::path& run_dir, std::int64_t step);

}  // namespace bert
