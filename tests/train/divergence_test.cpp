// A batch that poisons a step: nothing is harmed, the sample is named, and the run goes on as the
// policy says.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "model/weights/safetensors.h"
#include "tests/train/poisoned_run.h"
#include "train/checkpoint/checkpoint.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class DivergenceTest : public TrainingTest {
 protected:
  void SetUp() override { poison_ = std::make_unique<PoisonedRun>(folder_.path()); }

  Answer train_poisoned(const fs::path& run_dir, const std::string& more, int ranks = 0) const {
    return run((ranks > 0 ? mpirun(ranks) : "") + poison_->command(BERT_TRAIN, run_dir, more));
  }
  TrainerState state_of(const fs::path& run_dir, std::int64_t step) const {
    return TrainerState::parse(read_file(checkpoint_of(run_dir, step) / "trainer_state.json"), "");
  }

  std::unique_ptr<PoisonedRun> poison_;
};

TEST_F(DivergenceTest, SkipsAPoisonedBatchAndNamesIt) {
  const std::set<std::int64_t> expected = poison_->poisoned_steps(BERT_TRAIN, 12);
  ASSERT_GE(expected.size(), 2u);  // in two epochs
  ASSERT_LE(expected.size(), 3u);
  for (const int ranks : {0, 2}) {
    if (ranks > 0 && !runs_under_mpirun(BERT_TRAIN)) continue;
    const fs::path run_dir = folder_ / fmt::format("run_{}", ranks);
    const Answer answer = train_poisoned(run_dir, "train.max_steps=12", ranks);
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    std::set<std::int64_t> refused;
    for (const auto& record : read_metrics(run_dir)) {
      if (record.contains("loss") && record.at("loss").is_null())
        refused.insert(record.at("step").get<std::int64_t>());
    }
    EXPECT_EQ(refused, expected);
    for (const std::int64_t step : expected) {
      EXPECT_NE(answer.output.find(fmt::format("step {}: refused, and nothing was changed", step)),
                std::string::npos)
          << answer.output;
    }
    // The layer norm that sees the sum first, and the only document that is long enough.
    EXPECT_NE(
        answer.output.find("not finite: layer_norm_forward of bert.encoder.layer.0.attention"),
        std::string::npos)
        << answer.output;
    EXPECT_NE(answer.output.find(fmt::format("in {}\n", poison_->sample())), std::string::npos)
        << answer.output << "lacks " << poison_->sample();
    EXPECT_EQ(answer.output.find("  and "), std::string::npos) << answer.output;  // it alone
    EXPECT_EQ(state_of(run_dir, 12).skipped, static_cast<std::int64_t>(expected.size()));
    const SafetensorsFile model(checkpoint_of(run_dir, 12) / "model.safetensors");
    for (const StoredTensor& tensor : model.tensors()) {
      for (const float value : values_of(model, tensor))
        ASSERT_TRUE(std::isfinite(value)) << tensor.name;
    }
  }
}

// What the run was before the poisoned step is saved, to the byte, and nothing else.
TEST_F(DivergenceTest, StopsBeforeAPoisonedBatch) {
  const std::int64_t bad = *poison_->poisoned_steps(BERT_TRAIN, 12).begin();
  ASSERT_GT(bad, 1);
  const std::string last = checkpoint_name(bad - 1);
  ASSERT_EQ(
      train_poisoned(folder_ / "skip", "checkpoint.every_steps=1 checkpoint.keep=100").exit_code,
      0);
  const Answer answer = train_poisoned(folder_ / "stop", "divergence.policy=stop");
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_NE(answer.output.find(fmt::format("error: step {}: refused", bad)), std::string::npos)
      << answer.output;
  EXPECT_NE(answer.output.find("the state before it is checkpoint " + last), std::string::npos)
      << answer.output;
  EXPECT_TRUE(contents(folder_ / "stop" / "checkpoints" / last) ==
              contents(folder_ / "skip" / "checkpoints" / last));
  // A run resumed from it can go on otherwise, and ends where one that always skipped does.
  const Answer resumed = train_poisoned(folder_ / "stop", "divergence.policy=skip --resume auto");
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_TRUE(contents(checkpoint_of(folder_ / "stop", 12)) ==
              contents(checkpoint_of(folder_ / "skip", 12)));
}

TEST_F(DivergenceTest, RollsBackAndGoesOnAfterThePoisonedBatch) {
  const std::int64_t bad = *poison_->poisoned_steps(BERT_TRAIN, 12).begin();
  const std::string settings =
      "divergence.policy=rollback checkpoint.every_steps=2 checkpoint.keep=100";
  for (const char* name : {"one", "two"}) {
    const Answer answer = train_poisoned(folder_ / name, settings);
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    const std::int64_t back = (bad - 1) / 2 * 2;
    EXPECT_NE(answer.output.find(fmt::format("step {}: went back to ", bad)), std::string::npos)
        << answer.output;
    // The samples of the steps gone back over were passed over, those of the bad step with them.
    const TrainerState state = state_of(folder_ / name, back + 2);
    EXPECT_EQ(state.passed_over, static_cast<std::uint64_t>((bad - back) * PoisonedRun::kBatch));
    EXPECT_EQ(state.skipped, 0);
    std::vector<std::int64_t> steps;
    for (const json& record : read_metrics(folder_ / name)) {
      if (!record.contains("loss")) continue;
      EXPECT_FALSE(record.at("loss").is_null());
      steps.push_back(record.at("step"));
    }
    ASSERT_EQ(steps.size(), 12u);
    for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], static_cast<int>(i) + 1);
  }
  EXPECT_TRUE(contents(checkpoint_of(folder_ / "one", 12)) ==
              contents(checkpoint_of(folder_ / "two", 12)));
  // Killed right after the rollback, before it was saved anywhere: it happens again, alike.
  for (const auto& entry : fs::directory_iterator(folder_ / "two" / "checkpoints")) {
    const std::string file = entry.path().filename().string();
    if (file.compare(0, 5, "step_") == 0 && file > checkpoint_name((bad - 1) / 2 * 2)) {
      fs::remove_all(entry.path());
    }
  }
  const Answer again = train_poisoned(folder_ / "two", settings + " --resume auto");
  ASSERT_EQ(again.exit_code, 0) << again.output;
  EXPECT_TRUE(contents(checkpoint_of(folder_ / "one", 12)) ==
              contents(checkpoint_of(folder_ / "two", 12)));
}

// A run that goes on in another folder has nothing there to go back to, so it saves at its start.
TEST_F(DivergenceTest, RollsBackInAnotherFolder) {
  const std::int64_t bad = *poison_->poisoned_steps(BERT_TRAIN, 12).begin();
  const std::string last = checkpoint_name(bad - 1);
  ASSERT_EQ(train_poisoned(folder_ / "stop", "divergence.policy=stop").exit_code, 1);
  const Answer answer = train_poisoned(
      folder_ / "new", fmt::format("divergence.policy=rollback checkpoint.every_steps=2 --resume "
                                   "{}/checkpoints/{}",
                                   (folder_ / "stop").string(), last));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find(
                fmt::format("went back to {}/new/checkpoints/{}", folder_.path().string(), last)),
            std::string::npos)
      << answer.output;
}

// Stopped by the same step again, it leaves the checkpoint as it was: that may be the only one.
TEST_F(DivergenceTest, StopsAgainAndAgain) {
  const fs::path run_dir = folder_ / "run";
  const std::string settings = "divergence.policy=stop checkpoint.keep=1";
  ASSERT_EQ(train_poisoned(run_dir, settings).exit_code, 1);
  const auto before = contents(run_dir / "checkpoints");
  const auto written = fs::last_write_time(run_dir / "checkpoints" / "latest" / "checksums.json");
  ASSERT_EQ(train_poisoned(run_dir, settings + " --resume auto").exit_code, 1);
  EXPECT_TRUE(contents(run_dir / "checkpoints") == before);
  EXPECT_EQ(fs::last_write_time(run_dir / "checkpoints" / "latest" / "checksums.json"), written);
}

// Every batch is poisoned: the run does not go on for ever.
TEST_F(DivergenceTest, TooManyInARowFail) {
  poison_->poison_all();
  const Answer answer = train_poisoned(folder_ / "run", "divergence.max_in_a_row=3");
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_NE(answer.output.find("3 in a row, which is divergence.max_in_a_row"), std::string::npos)
      << answer.output;
  const Answer back =
      train_poisoned(folder_ / "back", "divergence.policy=rollback divergence.max_in_a_row=3");
  EXPECT_EQ(back.exit_code, 1) << back.output;
  EXPECT_NE(back.output.find("after 3 rollbacks"), std::string::npos) << back.output;
}

// A limit so low that ordinary losses are above it: those, and no others, are refused. Nothing is
// learned, so that losses do not fall.
TEST_F(DivergenceTest, RefusesSpikes) {
  const Answer answer =
      train(folder_ / "run",
            {"train.max_steps=150", "divergence.spike_z_score=0.1", "optimizer.learning_rate=1e-30",
             "divergence.max_in_a_row=100", "checkpoint.every_steps=0"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  std::int64_t refused = 0;
  for (std::size_t at = 0; (at = answer.output.find(": refused,", at)) != std::string::npos; ++at) {
    double loss = 0.0, limit = 0.0;
    ASSERT_EQ(std::sscanf(answer.output.c_str() + at,
                          ": refused, and nothing was changed: its loss is %lf, and above %lf is",
                          &loss, &limit),
              2)
        << answer.output.substr(at, 200);
    EXPECT_GT(loss, limit);
    ++refused;
  }
  EXPECT_GT(refused, 2);
  EXPECT_LT(refused, 60);
  EXPECT_NE(answer.output.find("the samples with the greatest losses:\n  loss "), std::string::npos)
      << answer.output;
  EXPECT_EQ(state_of(folder_ / "run", 150).skipped, refused);
  // Ten standard deviations, the default, are never reached.
  const Answer usual =
      train(folder_ / "usual", {"train.max_steps=150", "checkpoint.every_steps=0"});
  EXPECT_EQ(usual.output.find("refused"), std::string::npos) << usual.output;
}

}  // namespace
}  // namespace bert
