// Signals, kills at any moment, disks that refuse: what is there afterwards can be resumed, and
// ends with the bytes of a run that nothing happened to.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include <sys/mount.h>

#include "tests/train/full_disk.h"
#include "tests/train/training_fixture.h"
#include "train/checkpoint/checkpoint.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

class SurvivalTest : public TrainingTest {
 protected:
  // Runs `line`, calls `meanwhile` beside it, and gives the answer.
  Answer run_and(const std::string& line, const std::function<void()>& meanwhile) const {
    Answer answer;
    std::thread runner([&] { answer = run(line); });
    meanwhile();
    runner.join();
    return answer;
  }
  static bool wait_for(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return true;
  }
  static void signal_all(const fs::path& run_dir, int number) {
    for (const pid_t process : processes_of(run_dir)) ::kill(process, number);
  }
  void expect_same_end(const fs::path& found, const fs::path& expected, std::int64_t step) {
    EXPECT_TRUE(contents(checkpoint_of(found, step)) == contents(checkpoint_of(expected, step)));
    EXPECT_EQ(comparable_metrics(found), comparable_metrics(expected));
  }
};

TEST_F(SurvivalTest, SignalsEndARunWell) {
  const Arguments settings{"train.max_steps=300"};
  const fs::path whole = folder_ / "whole";
  ASSERT_EQ(train(whole, settings).exit_code, 0);
  const std::pair<int, const char*> signals[] = {
      {SIGTERM, "SIGTERM"}, {SIGINT, "SIGINT"}, {SIGUSR1, "SIGUSR1"}, {SIGHUP, "SIGHUP"}};
  for (const auto& [number, name] : signals) {
    const fs::path run_dir = folder_ / name;
    const Answer first = run_and(command(run_dir, settings), [&, number = number] {
      ASSERT_TRUE(wait_for([&] { return last_step(run_dir) >= 33; }));
      signal_all(run_dir, number);
    });
    ASSERT_EQ(first.exit_code, 0) << first.output;
    EXPECT_NE(first.output.find(fmt::format("stopped by {}", name)), std::string::npos)
        << first.output;
    const std::int64_t step = last_step(run_dir);
    ASSERT_LT(step, 300);
    // Nothing is lost but what came after the signal.
    EXPECT_TRUE(fs::exists(checkpoint_of(run_dir, step)));
    EXPECT_EQ(fs::read_symlink(run_dir / "checkpoints" / "latest"), checkpoint_name(step));
    Arguments resumed = settings;
    resumed.insert(resumed.end(), {"--resume", "auto"});
    const Answer second = train(run_dir, resumed);
    ASSERT_EQ(second.exit_code, 0) << second.output;
    EXPECT_NE(second.output.find(fmt::format("resumed at step {}", step)), std::string::npos);
    expect_same_end(run_dir, whole, 300);
  }
}

// As `train ... 2>&1 | head` does it.
TEST_F(SurvivalTest, NobodyReads) {
  const fs::path run_dir = folder_ / "run";
  const std::string line = command(run_dir, {"train.max_steps=300", "evaluation.every_steps=20"});
  const Answer answer = run(
      fmt::format("({} 2>&1; echo $? > {}) | head -n 1", line, (folder_ / "exit_code").string()));
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(read_file(folder_ / "exit_code"), "0\n");
  EXPECT_TRUE(fs::exists(checkpoint_of(run_dir, 300)));
  EXPECT_NE(read_file(run_dir / "log.txt").find("finished: 300 steps"), std::string::npos);
}

// nohup: the terminal is closed, and the run goes on.
TEST_F(SurvivalTest, AHangUpThatIsIgnored) {
  const fs::path run_dir = folder_ / "run";
  const Answer answer =
      run_and(fmt::format("nohup {}", command(run_dir, {"train.max_steps=300"})), [&] {
        ASSERT_TRUE(wait_for([&] { return last_step(run_dir) >= 33; }));
        signal_all(run_dir, SIGHUP);
      });
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_TRUE(fs::exists(checkpoint_of(run_dir, 300))) << answer.output;
}

// mpirun passes SIGUSR1 on to all ranks; one rank alone may get a signal as well.
TEST_F(SurvivalTest, RanksStopTogether) {
  if (!runs_under_mpirun(BERT_TRAIN)) GTEST_SKIP() << "MPI is not installed";
  const Arguments settings{"train.max_steps=2000"};
  for (const bool one : {false, true}) {
    const fs::path run_dir = folder_ / (one ? "one" : "all");
    const Answer answer = run_and(mpirun(2) + command(run_dir, settings), [&] {
      ASSERT_TRUE(wait_for([&] { return last_step(run_dir) >= 20; }));
      const std::vector<pid_t> ranks = processes_of(run_dir);
      ASSERT_EQ(ranks.size(), 2u);
      for (const pid_t rank : ranks) {
        ::kill(rank, SIGUSR1);
        if (one) break;
      }
    });
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    EXPECT_NE(answer.output.find("stopped by SIGUSR1"), std::string::npos) << answer.output;
    EXPECT_TRUE(fs::exists(checkpoint_of(run_dir, last_step(run_dir))));
  }
}

// Steps of a second or so; the second SIGINT does not wait for the one that is under way.
TEST_F(SurvivalTest, ASecondInterruptEndsAtOnce) {
  const fs::path run_dir = folder_ / "run";
  std::chrono::steady_clock::time_point killed;
  const Answer answer =
      run_and(command(run_dir,
                      {"train.batch_size=320", "model.num_hidden_layers=8", "model.hidden_size=256",
                       "model.intermediate_size=1024", "evaluation.every_steps=0"}),
              [&] {
                ASSERT_TRUE(wait_for([&] { return last_step(run_dir) >= 1; }));
                signal_all(run_dir, SIGINT);
                std::this_thread::sleep_for(milliseconds(50));
                signal_all(run_dir, SIGINT);
                killed = std::chrono::steady_clock::now();
                ASSERT_TRUE(wait_for([&] { return processes_of(run_dir).empty(); }));
                EXPECT_LT(std::chrono::steady_clock::now() - killed, milliseconds(500));
              });
  EXPECT_NE(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(answer.output.find("stopped by"), std::string::npos) << answer.output;
}

// Killed again and again at random moments, with a checkpoint every other step, so that many kills
// hit the writing of one. BERT_KILLS: how many (10).
TEST_F(SurvivalTest, KillsAtRandomMoments) {
  const char* const wanted = std::getenv("BERT_KILLS");
  const int kills = wanted != nullptr ? std::atoi(wanted) : 10;
  const Arguments settings{"train.max_steps=400", "checkpoint.every_steps=2", "checkpoint.keep=2",
                           "evaluation.every_steps=50"};
  const fs::path whole = folder_ / "whole";
  ASSERT_EQ(train(whole, settings).exit_code, 0);
  Arguments resumed = settings;
  resumed.insert(resumed.end(), {"--resume", "auto"});

  std::mt19937 random(20260101);
  int done = 0, unfinished = 0, from_start = 0;
  for (int run_number = 0; done < kills || run_number == 0; ++run_number) {
    const fs::path run_dir = folder_ / std::to_string(run_number);
    while (true) {
      const bool last = done >= kills;
      const Answer answer = run_and(command(run_dir, resumed), [&] {
        if (last) return;
        ASSERT_TRUE(wait_for([&] { return !processes_of(run_dir).empty(); }));
        std::this_thread::sleep_for(milliseconds(random() % 700));
        signal_all(run_dir, SIGKILL);
      });
      EXPECT_EQ(answer.output.find("error:"), std::string::npos) << answer.output;
      if (answer.exit_code == 0) break;
      ASSERT_FALSE(last) << answer.output;
      ++done;
      const fs::path checkpoints = run_dir / "checkpoints";  // not there yet after an early kill
      std::error_code none;
      for (const auto& entry : fs::directory_iterator(checkpoints, none)) {
        unfinished += entry.path().extension() == ".tmp" ? 1 : 0;
      }
      from_start += fs::exists(checkpoints / "latest") ? 0 : 1;
    }
    expect_same_end(run_dir, whole, 400);
    fs::remove_all(run_dir);
  }
  std::printf("%d kills; %d found a checkpoint half-written, %d came before the first\n", done,
              unfinished, from_start);
  RecordProperty("kills", done);
}

class FullDiskTest : public SurvivalTest {};

// Checkpoints that do not fit are warned of, training goes on, and when there is room again they
// are written again; the last one must be.
TEST_F(FullDiskTest, CheckpointsWaitForRoom) {
  const fs::path whole = folder_ / "whole", run_dir = folder_ / "run";
  const Arguments settings{"train.max_steps=200", "checkpoint.every_steps=10", "checkpoint.keep=1",
                           "evaluation.every_steps=0"};
  ASSERT_EQ(train(whole, settings).exit_code, 0);
  const SmallDisk disk(run_dir / "checkpoints", "4m");
  if (!disk.missing().empty()) GTEST_SKIP() << disk.missing();
  const fs::path filler = run_dir / "checkpoints" / "filler";
  write_text(filler, std::string((4 << 20) - 200000, 'x'));
  Arguments resumed = settings;
  resumed.insert(resumed.end(), {"--resume", "auto"});
  const auto says = [&](const char* text) {
    return fs::exists(run_dir / "log.txt") &&
           read_file(run_dir / "log.txt").find(text) != std::string::npos;
  };
  Answer answer = run_and(command(run_dir, resumed), [&] {
    ASSERT_TRUE(wait_for([&] { return says("could not be written"); }));
    fs::remove(filler);
  });
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("warning: the checkpoint of step "), std::string::npos);
  EXPECT_NE(answer.output.find("No space left on device"), std::string::npos) << answer.output;
  expect_same_end(run_dir, whole, 200);

  // No room for a second one up to the end: an error, and an older checkpoint is still there.
  Arguments longer = resumed;
  longer.push_back("train.max_steps=600");
  const std::uint64_t enough = disk.used() * 3 / 2;
  answer = run_and(command(run_dir, longer), [&] {
    ASSERT_TRUE(wait_for([&] { return last_step(run_dir) > 200; }));
    ASSERT_TRUE(wait_for([&] { return disk.resize(enough); }));
  });
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_NE(answer.output.find("error: the last checkpoint, of step 600, could not be written"),
            std::string::npos)
      << answer.output;
  const auto newest = newest_checkpoint(run_dir / "checkpoints",
                                        [](const std::string& damage) { ADD_FAILURE() << damage; });
  ASSERT_TRUE(newest);
  EXPECT_GE(*newest, checkpoint_of(run_dir, 200));
  // To start where there is no room is refused.
  ASSERT_TRUE(disk.resize(disk.used()));
  expect_refused(train(run_dir, longer), "files cannot be written");
}

// A folder that can no longer be written to, as of a file system that was mounted read-only after
// an error.
TEST_F(FullDiskTest, AFolderThatBecomesReadOnly) {
  const fs::path whole = folder_ / "whole", run_dir = folder_ / "run";
  const fs::path checkpoints = run_dir / "checkpoints";
  const Arguments settings{"train.max_steps=300", "checkpoint.every_steps=10",
                           "evaluation.every_steps=0", "--resume", "auto"};
  ASSERT_EQ(train(whole, settings).exit_code, 0);
  const SmallDisk disk(checkpoints, "16m");
  if (!disk.missing().empty()) GTEST_SKIP() << disk.missing();
  const auto remount = [&](unsigned long flags) {
    ASSERT_EQ(::mount("none", checkpoints.c_str(), nullptr, MS_REMOUNT | flags, nullptr), 0)
        << std::strerror(errno);
  };
  const Answer answer = run_and(command(run_dir, settings), [&] {
    ASSERT_TRUE(wait_for([&] { return fs::exists(checkpoints / "latest"); }));
    // Refused while a file is open for writing.
    ASSERT_TRUE(wait_for([&] {
      return ::mount("none", checkpoints.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    }));
    EXPECT_TRUE(wait_for([&] {
      return read_file(run_dir / "log.txt").find("could not be written") != std::string::npos;
    }));
    remount(0);
  });
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("Read-only file system"), std::string::npos) << answer.output;
  expect_same_end(run_dir, whole, 300);
}

}  // namespace
}  // namespace bert
