// Data parallelism: however a step's batch is shared among ranks and micro-batches, its loss is the
// same.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <functional>
#include <thread>

#include "kernels/cpu_module.h"
#include "runtime/file.h"
#include "tests/train/training_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

class RanksTest : public TrainingTest {
 protected:
  void SetUp() override {
    if (!runs_under_mpirun(BERT_TRAIN)) GTEST_SKIP() << "MPI is not installed";
  }

  // The first 20 losses of 1, 2 and 4 ranks, each with one micro-batch a step and with several,
  // are within `tolerance`, relative, of those of one process.
  void expect_same_losses(const Arguments& settings, double tolerance) {
    std::vector<double> expected;
    double worst = 0.0;
    for (const int ranks : {0, 1, 2, 4}) {
      for (const bool accumulate : {false, true}) {
        // 18 sequences of at most 32 tokens: uneven among four ranks.
        Arguments all{"train.max_steps=20", "train.batch_size=18", "checkpoint.every_steps=0",
                      "schedule.warmup_steps=0"};
        all.insert(all.end(), settings.begin(), settings.end());
        if (accumulate) {
          all.push_back(
              fmt::format("train.micro_batch_tokens={}", 32 * 18 / 4 / std::max(1, ranks)));
        }
        const fs::path run_dir = folder_ / fmt::format("{}_{}", ranks, accumulate);
        const Answer answer = ranks == 0 ? train(run_dir, all) : train_ranks(ranks, run_dir, all);
        ASSERT_EQ(answer.exit_code, 0) << answer.output;
        const std::vector<double> found = losses(run_dir);
        ASSERT_EQ(found.size(), 20u);
        if (expected.empty()) expected = found;
        for (std::size_t step = 0; step < found.size(); ++step) {
          const double error = std::abs(found[step] - expected[step]) / expected[step];
          EXPECT_LE(error, tolerance) << ranks << " ranks, step " << step + 1;
          worst = std::max(worst, error);
        }
      }
    }
    // What the gradients changed is far above the tolerance: without learning the last losses are
    // others.
    Arguments still{"train.max_steps=20", "train.batch_size=18", "optimizer.learning_rate=1e-9"};
    still.insert(still.end(), settings.begin(), settings.end());
    ASSERT_EQ(train(folder_ / "still", still).exit_code, 0);
    EXPECT_GT(std::abs(losses(folder_ / "still").back() / expected.back() - 1.0), 1e-3);
    std::printf("largest relative difference: %.2g\n", worst);
    RecordProperty("worst", fmt::format("{:.2g}", worst));
  }
};

TEST_F(RanksTest, SameLossesInDoublePrecision) {
  expect_same_losses({"runtime.precision=fp64", "objective.next_sentence=true",
                      "model.hidden_size=16", "evaluation.max_batches=1"},
                     1e-12);
}

TEST_F(RanksTest, SameLossesInSinglePrecision) {
  expect_same_losses({"model.layer_norm=post", "objective.next_sentence=true"}, 1e-5);
}

// Evaluation sums over the ranks, too.
TEST_F(RanksTest, SameValidation) {
  std::vector<nlohmann::json> expected;
  for (const int ranks : {1, 2}) {
    const fs::path run_dir = folder_ / std::to_string(ranks);
    const Answer answer =
        train_ranks(ranks, run_dir, {"train.max_steps=10", "evaluation.max_batches=0"});
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    nlohmann::json last = read_metrics(run_dir).back();
    ASSERT_TRUE(last.contains("val_loss"));
    if (ranks == 1) {
      expected.push_back(last);
    } else {
      const double a = expected[0].at("val_loss"), b = last.at("val_loss");
      EXPECT_NEAR(a, b, 1e-5 * a);
      const double x = expected[0].at("val_accuracy"), y = last.at("val_accuracy");
      EXPECT_NEAR(x, y, 2e-3);  // a tie may fall the other way
    }
  }
}

TEST_F(RanksTest, OnlyRankZeroWritesAndPrints) {
  const fs::path one = folder_ / "one", two = folder_ / "two";
  const Arguments settings{"train.max_steps=15"};
  ASSERT_EQ(train(one, settings).exit_code, 0);
  const Answer answer = train_ranks(2, two, settings);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const auto count = [&](const std::string& text) {
    std::size_t n = 0;
    for (auto at = answer.output.find(text); at != std::string::npos;
         at = answer.output.find(text, at + 1)) {
      ++n;
    }
    return n;
  };
  EXPECT_EQ(count("model       2 layers"), 1u) << answer.output;
  EXPECT_EQ(count("step 15: validation loss"), 1u) << answer.output;
  EXPECT_EQ(count("estimated: "), 1u) << answer.output;
  EXPECT_EQ(count("finished: 15 steps in "), 1u) << answer.output;
  std::vector<std::string> names_one, names_two;
  for (const auto& [name, content] : contents(one)) names_one.push_back(name);
  for (const auto& [name, content] : contents(two)) names_two.push_back(name);
  EXPECT_EQ(names_one, names_two);
  EXPECT_EQ(losses(two).size(), 15u);
}

// One line that begins with "error:", mpirun's own words aside, and the exit code of the error.
void expect_one_error(const Answer& answer, const std::string& part) {
  EXPECT_EQ(answer.exit_code, 2) << answer.output;
  std::size_t errors = 0;
  for (std::size_t at = 0; at != std::string::npos; at = answer.output.find('\n', at)) {
    if (at > 0) ++at;
    if (answer.output.compare(at, 7, "error: ") == 0) ++errors;
  }
  EXPECT_EQ(errors, 1u) << answer.output;
  EXPECT_NE(answer.output.find(part), std::string::npos) << answer.output;
}

TEST_F(RanksTest, WhatIsWrongEverywhereIsSaidOnce) {
  expect_one_error(train_ranks(2, folder_ / "run", {"data.path=/nowhere"}), "/nowhere");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
  expect_one_error(train_ranks(4, folder_ / "run", {"train.batch_size=3"}), "train.batch_size");
  EXPECT_FALSE(fs::exists(folder_ / "run"));
  expect_one_error(train_ranks(2, folder_ / "run", {"train.batch_seize=3"}), "train.batch_size");
}

// Two ranks, each a program of its own, started in a folder of its own with settings of its own.
class UnlikeRanksTest : public RanksTest {
 protected:
  Answer run_two(const Arguments& first, const Arguments& second,
                 const std::string& before_second = "") const {
    return run(fmt::format("{} -wdir {} {} : -np 1 -wdir {} {} {}", mpirun(1),
                           (folder_ / "first").string(), command(folder_ / "run", first),
                           (folder_ / "second").string(), before_second,
                           command(folder_ / "run", second)));
  }
  // Refused for that reason within seconds, by rank 1, with nothing written.
  void expect_refused_by_rank_one(const Answer& answer, const std::string& part) {
    expect_one_error(answer, "error: rank 1: " + part);
    EXPECT_FALSE(fs::exists(folder_ / "run"));
  }
  void SetUp() override {
    RanksTest::SetUp();
    for (const char* name : {"first", "second"}) {
      fs::create_directories(folder_ / name);
      fs::copy(TrainingWorld::get().corpus(), folder_ / name / "corpus",
               fs::copy_options::recursive);
      fs::copy(TrainingWorld::get().tokenizer(), folder_ / name / "tokenizer",
               fs::copy_options::recursive);
    }
  }
  const Arguments here_{"data.path=corpus", "tokenizer.path=tokenizer", "train.max_steps=10"};
};

TEST_F(UnlikeRanksTest, CopiesDoNotDiffer) {
  const Answer answer = run_two(here_, here_);
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
}

TEST_F(UnlikeRanksTest, OtherSettings) {
  expect_refused_by_rank_one(
      run_two({"train.batch_size=32"}, {"train.batch_size=64"}),
      "this rank is not like rank 0: train.batch_size is 64 here, 32 on rank 0");
  expect_refused_by_rank_one(run_two({}, {"seed=4"}),
                             "this rank is not like rank 0: seed is 4 here");
  // The corpus is not looked for before the settings agree.
  expect_refused_by_rank_one(run_two({}, {"data.path=/nowhere"}),
                             "this rank is not like rank 0: data.path is /nowhere here");
}

TEST_F(UnlikeRanksTest, AnotherCorpus) {
  fs::remove_all(folder_ / "second" / "corpus");
  write_topic_corpus(folder_ / "second" / "corpus", 2);
  expect_refused_by_rank_one(run_two(here_, here_), "this rank is not like rank 0: the corpus is ");
}

TEST_F(UnlikeRanksTest, AnotherKindOfProcessor) {
  if (cpu_levels().size() == 1) GTEST_SKIP() << "this processor has one level of instructions";
  ::unsetenv("BERT_CPU_LEVEL");
  expect_refused_by_rank_one(run_two(here_, here_, "env BERT_CPU_LEVEL=baseline"),
                             fmt::format("this rank is not like rank 0: the device is cpu f32 with "
                                         "baseline instructions here, cpu f32 with {} ",
                                         cpu_levels().front()));
}

// A rank that fails alone ends the others, which wait for it.
TEST_F(UnlikeRanksTest, OneFailingAtTheStartEndsAll) {
  fs::remove_all(folder_ / "second" / "corpus");
  expect_refused_by_rank_one(run_two(here_, here_), "argument data.path=corpus: corpus: ");
}

TEST_F(UnlikeRanksTest, OneFailingDuringTrainingEndsAll) {
  const fs::path tokens = folder_ / "second" / "corpus" / "train" / "tokens.bin";
  flip_bit(tokens, 8 * (fs::file_size(tokens) / 2) + 3);
  expect_one_error(run_two(here_, here_), "error: rank 1: corpus/train/tokens.bin");
}

TEST_F(UnlikeRanksTest, OneFailingDuringEvaluationEndsAll) {
  const fs::path tokens = folder_ / "second" / "corpus" / "validation" / "tokens.bin";
  flip_bit(tokens, 8 * (fs::file_size(tokens) / 2) + 3);
  expect_one_error(run_two(here_, here_), "error: rank 1: corpus/validation/tokens.bin");
  EXPECT_EQ(losses(folder_ / "run").size(), 10u);  // it was the evaluation, at the end
}

// Every death of a rank ends the job, whatever the ranks are doing. Rank 0 dies too: it is the one
// that writes.
class DyingRankTest : public RanksTest {
 protected:
  void expect_end_of_all(const std::string& moment, const Arguments& settings,
                         const std::function<bool(const fs::path&)>& when) {
    for (const int victim : {0, 1}) {
      for (const int signal : {SIGKILL, SIGABRT}) {
        SCOPED_TRACE(fmt::format("{}, rank {}, signal {}", moment, victim, signal));
        const fs::path run_dir = folder_ / fmt::format("{}_{}_{}", moment, victim, signal);
        Arguments all{"train.max_steps=1000000"};
        all.insert(all.end(), settings.begin(), settings.end());
        const auto [answer, seconds] =
            train_and_signal(2, run_dir, all, victim, signal, [&] { return when(run_dir); });
        std::printf("%s, rank %d, signal %d: ended after %.2f s\n", moment.c_str(), victim, signal,
                    seconds);
        EXPECT_NE(answer.exit_code, 0) << answer.output;
        EXPECT_NE(answer.exit_code, 124) << "stopped by the time limit only";
        EXPECT_NE(answer.output.find(fmt::format("signal {}", signal)), std::string::npos)
            << answer.output;
        EXPECT_NE(answer.output.find(fmt::format("rank {}", victim)), std::string::npos)
            << answer.output;
        EXPECT_LT(seconds, 30.0);
        EXPECT_TRUE(all_gone(run_dir));
        resumable(run_dir);
      }
    }
  }
  // Whether no process of the run is left; the system may take a moment to bury a dead one.
  static bool all_gone(const fs::path& run_dir) {
    for (int i = 0; i < 50 && !processes_of(run_dir).empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return processes_of(run_dir).empty();
  }
  // What is left can be gone on from; a half-written checkpoint is none.
  void resumable(const fs::path& run_dir) {
    const std::int64_t done = last_step(run_dir);
    const Answer answer = train_ranks(
        2, run_dir,
        {fmt::format("train.max_steps={}", done + 11), "--resume", "auto", "--dry-run"});
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    EXPECT_EQ(answer.output.find("warning"), std::string::npos) << answer.output;
  }
};

// MPI's own handlers may wait for ever inside a crash; nothing catches one. (But sanitizers do.)
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_F(DyingRankTest, NothingStandsInACrashsWay) {
  const fs::path run_dir = folder_ / "run";
  std::size_t ranks = 0;
  std::vector<std::string> caught;
  train_and_signal(2, run_dir, {"train.max_steps=1000000"}, 0, SIGTERM, [&] {
    if (last_step(run_dir) < 3) return false;
    for (const pid_t rank : processes_of(run_dir)) {
      ++ranks;
      const std::string status = read_file(fmt::format("/proc/{}/status", rank));
      const auto mask = status.find("SigCgt:") + 7;
      const std::uint64_t signals = std::stoull(status.substr(mask, 17), nullptr, 16);
      for (const int signal : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV}) {
        if ((signals >> (signal - 1) & 1) != 0) {
          caught.push_back(fmt::format("process {}, signal {}", rank, signal));
        }
      }
    }
    return true;
  });
  EXPECT_GE(ranks, 2u);
  EXPECT_EQ(caught, std::vector<std::string>());
}
#endif

// While the corpus is opened. Before that there is a moment in which MPI itself does not know its
// ranks, and the launcher tells of the end in its own words.
TEST_F(DyingRankTest, AtTheStart) {
  expect_end_of_all("start", {}, [](const fs::path& run_dir) {
    const std::vector<pid_t> ranks = processes_of(run_dir);
    const auto has_corpus = [](pid_t rank) {
      try {
        return read_file(fmt::format("/proc/{}/maps", rank)).find("tokens.bin") !=
               std::string::npos;
      } catch (const InputError&) {  // it has just ended
        return false;
      }
    };
    return ranks.size() == 2 && std::all_of(ranks.begin(), ranks.end(), has_corpus);
  });
}

TEST_F(DyingRankTest, DuringTraining) {
  expect_end_of_all("training", {"evaluation.every_steps=0", "checkpoint.every_steps=0"},
                    [](const fs::path& run_dir) { return last_step(run_dir) >= 5; });
}

// Evaluations take nearly all of the time of this run: the whole validation split after each step
// of two sequences.
TEST_F(DyingRankTest, DuringEvaluation) {
  expect_end_of_all("evaluation",
                    {"train.batch_size=2", "evaluation.every_steps=1", "evaluation.max_batches=0",
                     "evaluation.samples=0", "checkpoint.every_steps=0"},
                    [](const fs::path& run_dir) { return last_step(run_dir) >= 3; });
}

TEST_F(DyingRankTest, WhileACheckpointIsWritten) {
  expect_end_of_all(
      "checkpoint", {"checkpoint.every_steps=1", "evaluation.every_steps=0", "train.batch_size=2"},
      [](const fs::path& run_dir) {
        return last_step(run_dir) >= 3 &&
               fs::exists(checkpoint_of(run_dir, last_step(run_dir)).string() + ".tmp");
      });
}

}  // namespace
}  // namespace bert
