// A run that is killed and resumed ends with the bytes of one that never was.
#include <cstdlib>

#include "kernels/cpu_module.h"
#include "tests/train/training_fixture.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/run_directory.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

class ResumeTest : public TrainingTest {
 protected:
  static constexpr int kSteps = 80;

  // kSteps in one go; and killed between the checkpoint of step 20 and the end, then resumed.
  // `ranks`: 0 without mpirun.
  void expect_exact(int ranks, Arguments settings) {
    settings.push_back(fmt::format("train.max_steps={}", kSteps));
    const fs::path whole = folder_ / "whole", broken = folder_ / "broken";
    const Answer first = ranks > 0 ? train_ranks(ranks, whole, settings) : train(whole, settings);
    ASSERT_EQ(first.exit_code, 0) << first.output;

    ASSERT_NO_FATAL_FAILURE(train_and_kill(ranks, 25, broken, settings));
    Arguments resumed = settings;
    resumed.insert(resumed.end(), {"--resume", "auto"});
    const Answer second = ranks > 0 ? train_ranks(ranks, broken, resumed) : train(broken, resumed);
    ASSERT_EQ(second.exit_code, 0) << second.output;
    EXPECT_NE(second.output.find("resumed at step "), std::string::npos) << second.output;

    const auto expected = contents(checkpoint_of(whole, kSteps));
    const auto found = contents(checkpoint_of(broken, kSteps));
    ASSERT_EQ(found.size(), expected.size());
    ASSERT_GE(found.size(), 6u);
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].first, expected[i].first);
      EXPECT_TRUE(found[i].second == expected[i].second) << found[i].first << " differs";
    }
    // The bytes of step 60 are not those of the end: something was learned in between.
    EXPECT_NE(read_file(checkpoint_of(whole, 60) / "model.safetensors"),
              read_file(checkpoint_of(whole, kSteps) / "model.safetensors"));
    EXPECT_EQ(comparable_metrics(broken), comparable_metrics(whole));
    EXPECT_EQ(losses(whole).size(), static_cast<std::size_t>(kSteps));
    for (const char* file : {"predictions.jsonl", "gradient_norms.jsonl"}) {
      EXPECT_EQ(read_file(broken / file), read_file(whole / file)) << file;
      EXPECT_NE(read_file(whole / file), "") << file;
    }
    // Events are history: both starts are there.
    const std::string events = read_file(broken / "events.jsonl");
    EXPECT_LT(events.find("\"kind\": \"start\""), events.find("\"kind\": \"resume\"")) << events;
  }
};

TEST_F(ResumeTest, DropoutAcrossAnEvaluation) { expect_exact(0, {}); }

TEST_F(ResumeTest, AccumulationPostLayerNormNextSentence) {
  expect_exact(0, {"model.layer_norm=post", "objective.next_sentence=true",
                   "train.micro_batch_tokens=256", "evaluation.patience=5"});
}

TEST_F(ResumeTest, SeveralThreads) { expect_exact(0, {"runtime.threads=2", "data.threads=2"}); }

TEST_F(ResumeTest, TwoRanks) {
  if (!runs_under_mpirun(BERT_TRAIN)) GTEST_SKIP() << "MPI is not installed";
  expect_exact(2, {"train.micro_batch_tokens=512"});
}

// The change of sizes is at step 44: what was resumed before it goes through it.
TEST_F(ResumeTest, AcrossPhases) {
  expect_exact(0, {"train.sequence_length=16",
                   "train.phases=[{from: 0.55, sequence_length: 32, batch_size: 48}]"});
}

// Two corpora, each in epochs of its own, in the middle of which the run is killed.
TEST_F(ResumeTest, MixedCorpora) {
  const fs::path corpus = TrainingWorld::get().corpus(), other = folder_ / "other";
  write_topic_corpus(other, 77);
  const auto mix = [&](int weight) {
    return fmt::format("data.path=[{{path: {}, weight: 3}}, {{path: {}, weight: {}}}]",
                       corpus.string(), other.string(), weight);
  };
  expect_exact(0, {mix(1), "objective.static_masks=2", "data.short_sequence_probability=0.2"});
  // Other weights are other samples.
  const Answer answer = train(folder_ / "broken", {mix(2), "--resume", "auto"});
  EXPECT_EQ(answer.exit_code, 2) << answer.output;
  EXPECT_NE(answer.output.find("corpus"), std::string::npos) << answer.output;
}

// A rate that changes no bit of any loss: only the first evaluation is the best, and the others are
// counted across the resume.
TEST_F(ResumeTest, CountsEvaluationsSinceTheBest) {
  expect_exact(
      0, {"optimizer.learning_rate=1e-30", "evaluation.every_steps=10", "evaluation.patience=9"});
  const TrainerState state = TrainerState::parse(
      read_file(checkpoint_of(folder_ / "broken", kSteps) / "trainer_state.json"), "state");
  EXPECT_EQ(state.best_step, 10);
  EXPECT_EQ(state.evaluations_since_best, 7);
}

// With other threads sums are rounded in another order: it is said, and the run goes on.
TEST_F(ResumeTest, WithOtherThreads) {
  const fs::path whole = folder_ / "whole", broken = folder_ / "broken";
  ASSERT_EQ(train(whole).exit_code, 0);
  ASSERT_EQ(train(broken).exit_code, 0);
  const Answer answer =
      train(broken, {"runtime.threads=2", "--resume", checkpoint_of(broken, 20).string()});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("not bit for bit"), std::string::npos) << answer.output;
  // The later checkpoint of the run that was left is not taken for one of this.
  EXPECT_TRUE(fs::exists(checkpoint_of(broken, 40).string() + ".set_aside"));
  const std::vector<double> expected = losses(whole), found = losses(broken);
  ASSERT_EQ(found.size(), 40u);
  for (std::size_t i = 0; i < 40; ++i) EXPECT_NEAR(found[i], expected[i], 1e-4 * expected[i]);
}

TEST_F(ResumeTest, AtAnotherLevelOfInstructions) {
  if (cpu_levels().size() == 1) GTEST_SKIP() << "this processor has one level of instructions";
  const fs::path run_dir = folder_ / "run";
  ASSERT_EQ(train(run_dir, {"train.max_steps=20"}).exit_code, 0);
  ::setenv("BERT_CPU_LEVEL", "baseline", 1);
  const Answer answer = train(run_dir, {"train.max_steps=25", "--resume", "auto"});
  ::unsetenv("BERT_CPU_LEVEL");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find(
                "this run computes in fp32 on cpu f32 with baseline instructions: it goes on"),
            std::string::npos)
      << answer.output;
}

// The lock is that of another run for as long as it lives.
TEST_F(ResumeTest, OneRunAtATime) {
  const fs::path run_dir = folder_ / "run";
  ASSERT_EQ(train(run_dir, {"train.max_steps=5", "schedule.warmup_steps=0"}).exit_code, 0);
  const auto before = contents(run_dir);
  auto other = lock_run_directory(run_dir);
  ASSERT_NE(other, nullptr);
  Arguments settings{"train.max_steps=10", "schedule.warmup_steps=0", "--resume", "auto"};
  const Answer answer = train(run_dir, settings);
  EXPECT_EQ(answer.exit_code, 2);
  EXPECT_NE(answer.output.find("is in use: another run is writing to it"), std::string::npos)
      << answer.output;
  EXPECT_TRUE(contents(run_dir) == before);
  other.reset();
  EXPECT_EQ(train(run_dir, settings).exit_code, 0);
  // One that only looks is in nobody's way.
  other = lock_run_directory(run_dir);
  settings.push_back("--dry-run");
  EXPECT_EQ(train(run_dir, settings).exit_code, 0);
}

TEST_F(ResumeTest, NothingToDoAtTheEnd) {
  const fs::path run_dir = folder_ / "run";
  const Arguments settings{"train.max_steps=10", "schedule.warmup_steps=0"};
  ASSERT_EQ(train(run_dir, settings).exit_code, 0);
  const auto before = contents(run_dir / "checkpoints");
  Arguments resumed = settings;
  resumed.insert(resumed.end(), {"--resume", "auto"});
  const Answer answer = train(run_dir, resumed);
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("nothing to do"), std::string::npos) << answer.output;
  EXPECT_TRUE(contents(run_dir / "checkpoints") == before);
  EXPECT_EQ(losses(run_dir).size(), 10u);
  // Its configuration stays that of what was done.
  const std::string config = read_file(run_dir / "config.yaml");
  EXPECT_EQ(train(run_dir, {"train.max_steps=5", "schedule.warmup_steps=0", "--resume", "auto"})
                .exit_code,
            0);
  EXPECT_EQ(read_file(run_dir / "config.yaml"), config);
}

// A run that saved before its first step, and goes on from there: no fresh start.
TEST_F(ResumeTest, FromStepZero) {
  const fs::path run_dir = folder_ / "run", best = run_dir / "checkpoints" / "best";
  const Arguments settings{"train.max_steps=12", "divergence.policy=rollback",
                           "evaluation.every_steps=0", "checkpoint.every_steps=10"};
  ASSERT_EQ(train(run_dir, settings).exit_code, 0);
  const auto whole = contents(checkpoint_of(run_dir, 12));
  EXPECT_EQ(fs::read_symlink(best), checkpoint_name(12));
  Arguments resumed = settings;
  resumed.insert(resumed.end(), {"--resume", checkpoint_of(run_dir, 0).string()});
  const Answer answer = train(run_dir, resumed);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find(", resumed at step 0\n"), std::string::npos) << answer.output;
  EXPECT_EQ(answer.output.find("starting afresh"), std::string::npos) << answer.output;
  std::vector<std::string> kinds;
  for (const auto& event : read_lines(run_dir / "events.jsonl")) {
    if (event.at("step") == 0 && event.at("kind") != "checkpoint") {
      kinds.push_back(event.at("kind"));
    }
  }
  EXPECT_EQ(kinds, (std::vector<std::string>{"start", "resume"}));
  EXPECT_TRUE(contents(checkpoint_of(run_dir, 12)) == whole);
}

// The end of a run, to be gone on from in another folder, is nothing to go on with.
TEST_F(ResumeTest, PastItsEndInAnotherFolder) {
  const fs::path run_dir = folder_ / "run", other = folder_ / "other";
  const Arguments settings{"train.max_steps=10", "schedule.warmup_steps=0"};
  ASSERT_EQ(train(run_dir, settings).exit_code, 0);
  Arguments resumed = settings;
  resumed.insert(resumed.end(), {"--resume", checkpoint_of(run_dir, 10).string()});
  expect_refused(train(other, resumed), "there is nothing to do");
  EXPECT_FALSE(fs::exists(other));
}

// `auto` in a folder without checkpoints starts afresh, also where a run died before its first.
TEST_F(ResumeTest, AutoStartsAfresh) {
  const fs::path whole = folder_ / "whole", broken = folder_ / "broken";
  const Arguments settings{"train.max_steps=30", "checkpoint.every_steps=30", "--resume", "auto"};
  ASSERT_EQ(train(whole, settings).exit_code, 0);
  ASSERT_EQ(losses(whole).size(), 30u);
  fs::create_directories(broken / "checkpoints" / "step_00000020.tmp");
  write_text(broken / "checkpoints" / "step_00000020.tmp" / "config.json", "{");
  fs::copy_file(whole / "metrics.jsonl", broken / "metrics.jsonl");
  const Answer answer = train(broken, settings);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(comparable_metrics(broken), comparable_metrics(whole));
  EXPECT_FALSE(fs::exists(broken / "checkpoints" / "step_00000020.tmp"));
}

}  // namespace
}  // namespace bert
