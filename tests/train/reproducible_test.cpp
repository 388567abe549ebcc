// train.reproducible: the same bytes for any number of ranks, threads and micro_batch_tokens.
#include <algorithm>

#include <xxhash.h>

#include "tests/train/training_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// Dropout is on. 50 sequences in micro-batches of 6: nine of them, the last of 2.
const Arguments kReproducible = {"train.reproducible=true",  "train.reproducible_sequences=6",
                                 "train.batch_size=50",      "train.max_steps=12",
                                 "checkpoint.every_steps=6", "evaluation.every_steps=4",
                                 "evaluation.patience=50"};

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

// What a run has learned: all files of a checkpoint, but for who wrote it.
std::vector<std::pair<std::string, std::string>> learned(const fs::path& checkpoint) {
  std::vector<std::pair<std::string, std::string>> files;
  for (auto& [name, content] : contents(checkpoint)) {
    if (name == "checksums.json") continue;  // of trainer_state.json, too
    if (name == "trainer_state.json") {
      nlohmann::json state = nlohmann::json::parse(content);
      state.erase("world_size");
      state.erase("threads");
      content = state.dump();
    }
    files.emplace_back(name, content);
  }
  return files;
}

class ReproducibleTest : public TrainingTest {
 protected:
  void SetUp() override {
    if (!runs_under_mpirun(BERT_TRAIN)) GTEST_SKIP() << "MPI is not installed";
  }

  // `ranks`: 0 without mpirun.
  fs::path trained(const std::string& name, int ranks, const Arguments& all) {
    const fs::path run_dir = folder_ / name;
    const Answer answer = ranks > 0 ? train_ranks(ranks, run_dir, all) : train(run_dir, all);
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    output_ = answer.output;
    return run_dir;
  }
  // A run folder that knows of its first 6 steps only. Gives their checkpoint.
  fs::path copy_half(const fs::path& whole, const std::string& name) const {
    const fs::path run_dir = folder_ / name, checkpoint = checkpoint_of(run_dir, 6);
    fs::create_directories(run_dir / "checkpoints");
    fs::copy(checkpoint_of(whole, 6), checkpoint, fs::copy_options::recursive);
    for (const char* log : {"metrics.jsonl", "predictions.jsonl"}) {
      fs::copy_file(whole / log, run_dir / log);
    }
    return checkpoint;
  }
  // Checkpoints, logged losses, evaluations and predictions.
  void expect_same(const fs::path& a, const fs::path& b, std::int64_t step) {
    const auto expected = learned(checkpoint_of(a, step)), found = learned(checkpoint_of(b, step));
    ASSERT_EQ(found.size(), expected.size());
    ASSERT_GE(found.size(), 5u);
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_EQ(found[i].first, expected[i].first);
      EXPECT_TRUE(found[i].second == expected[i].second) << found[i].first << " differs";
    }
    EXPECT_EQ(comparable_metrics(b), comparable_metrics(a));
    EXPECT_EQ(read_file(b / "predictions.jsonl"), read_file(a / "predictions.jsonl"));
  }

  std::string output_;
};

struct Way {
  int ranks, threads;
  const char* micro_batch_tokens;
};
std::string name_of(const Way& way) {
  return fmt::format("{}_{}_{}", way.ranks, way.threads, way.micro_batch_tokens);
}
// A micro-batch is 6 x 32 = 192 tokens.
constexpr Way kWays[] = {{0, 1, "auto"}, {0, 2, "192"}, {0, 3, "100000"}, {1, 2, "auto"},
                         {2, 1, "192"},  {2, 2, "500"}, {3, 1, "auto"},   {3, 2, "192"}};

TEST_F(ReproducibleTest, AnyRanksThreadsAndMicroBatches) {
  fs::path first;
  for (const Way& way : kWays) {
    SCOPED_TRACE(name_of(way));
    const fs::path run_dir = trained(
        name_of(way), way.ranks,
        with(kReproducible, {"objective.next_sentence=true", "model.layer_norm=post",
                             fmt::format("runtime.threads={}", way.threads),
                             fmt::format("train.micro_batch_tokens={}", way.micro_batch_tokens)}));
    EXPECT_NE(output_.find("the same for any ranks and threads"), std::string::npos) << output_;
    if (first.empty()) first = run_dir;
    expect_same(first, run_dir, 6);
    expect_same(first, run_dir, 12);
  }
  // An evaluation was there to compare, with its standard error, and something was learned.
  const auto metrics = read_metrics(first);
  EXPECT_TRUE(std::any_of(metrics.begin(), metrics.end(), [](const nlohmann::json& record) {
    return record.contains("val_loss_se") && record.at("val_nsp_loss") > 0.0;
  }));
  EXPECT_NE(read_file(checkpoint_of(first, 6) / "model.safetensors"),
            read_file(checkpoint_of(first, 12) / "model.safetensors"));
}

// Without it the same comparison fails: it can.
TEST_F(ReproducibleTest, RanksShowWithoutIt) {
  const Arguments plain = with(kReproducible, {"train.reproducible=false"});
  const fs::path one = trained("one", 0, plain), two = trained("two", 2, plain);
  EXPECT_NE(read_file(checkpoint_of(one, 12) / "model.safetensors"),
            read_file(checkpoint_of(two, 12) / "model.safetensors"));
  const fs::path threads = trained("threads", 0, with(plain, {"runtime.threads=2"}));
  EXPECT_NE(read_file(checkpoint_of(one, 12) / "model.safetensors"),
            read_file(checkpoint_of(threads, 12) / "model.safetensors"));
}

TEST_F(ReproducibleTest, ResumesOnOtherRanksAcrossPhases) {
  // Another length and batch size from step 7 on.
  const Arguments phases =
      with(kReproducible, {"train.sequence_length=16",
                           "train.phases=[{from: 0.6, sequence_length: 32, batch_size: 31}]"});
  const fs::path whole = trained("whole", 0, with(phases, {"runtime.threads=2"}));
  const fs::path broken = folder_ / "broken";
  copy_half(whole, "broken");
  trained("broken", 3, with(phases, {"--resume", "auto"}));
  EXPECT_NE(output_.find("resumed at step 6"), std::string::npos) << output_;
  EXPECT_EQ(output_.find("not bit for bit"), std::string::npos) << output_;
  expect_same(whole, broken, 12);
}

// Rewrites the state of a run in a checkpoint, which stays valid.
void change_state(const fs::path& checkpoint, const std::string& key, const nlohmann::json& value) {
  const auto write = [&](const char* name, const nlohmann::ordered_json& json) {
    const std::string text = json.dump();
    write_text(checkpoint / name, text);
    return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
  };
  auto state = nlohmann::ordered_json::parse(read_file(checkpoint / "trainer_state.json"));
  ASSERT_TRUE(state.contains(key));
  state[key] = value;
  auto checksums = nlohmann::ordered_json::parse(read_file(checkpoint / "checksums.json"));
  checksums["trainer_state.json"] = write("trainer_state.json", state);
  write("checksums.json", checksums);
}

// The first step finds that its gradients do not fit the unit that it was told, and is computed
// again: on all ranks alike, its losses counted once.
TEST_F(ReproducibleTest, AStepOfOtherGradientsIsComputedAgain) {
  const fs::path whole = trained("whole", 0, kReproducible);
  for (const int exponent : {100, -100}) {
    fs::path first;
    for (const int ranks : {0, 2}) {
      const std::string name = fmt::format("{}_{}", exponent, ranks);
      ASSERT_NO_FATAL_FAILURE(change_state(copy_half(whole, name), "gradient_exponent", exponent));
      const fs::path run_dir = trained(name, ranks, with(kReproducible, {"--resume", "auto"}));
      const std::vector<double> expected = losses(whole), found = losses(run_dir);
      ASSERT_EQ(found.size(), 12u);
      for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
      if (first.empty()) first = run_dir;
      expect_same(first, run_dir, 12);
    }
  }
}

// A unit that is accepted, but is coarser than the one that the checkpoint tells, rounds otherwise.
TEST_F(ReproducibleTest, TheUnitComesFromTheCheckpoint) {
  const fs::path whole = trained("whole", 0, kReproducible);
  const std::string state = read_file(checkpoint_of(whole, 6) / "trainer_state.json");
  const int exponent = nlohmann::json::parse(state).at("gradient_exponent");
  EXPECT_NE(exponent, 0);
  copy_half(whole, "same");
  expect_same(whole, trained("same", 2, with(kReproducible, {"--resume", "auto"})), 12);
  ASSERT_NO_FATAL_FAILURE(
      change_state(copy_half(whole, "coarse"), "gradient_exponent", exponent + 14));
  const fs::path coarse = trained("coarse", 0, with(kReproducible, {"--resume", "auto"}));
  EXPECT_NE(read_file(checkpoint_of(coarse, 12) / "model.safetensors"),
            read_file(checkpoint_of(whole, 12) / "model.safetensors"));
  EXPECT_NEAR(losses(coarse).back(), losses(whole).back(), 1e-6);
}

// The reference, in f64: there is nothing of f32 in it.
TEST_F(ReproducibleTest, InDoublePrecision) {
  const Arguments settings =
      with(kReproducible, {"runtime.precision=fp64", "train.max_steps=6", "schedule.warmup_steps=2",
                           "model.hidden_size=16"});
  expect_same(trained("one", 0, settings), trained("three", 3, settings), 6);
}

TEST_F(ReproducibleTest, FollowsWhatIsNot) {
  const Arguments plain = with(kReproducible, {"train.reproducible=false"});
  const std::vector<double> exact = losses(trained("with", 0, kReproducible)),
                            other = losses(trained("without", 0, plain));
  ASSERT_EQ(exact.size(), 12u);
  for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(exact[i], other[i], 1e-5 * other[i]) << i;
}

TEST_F(ReproducibleTest, SaysWhatCannotBe) {
  const auto expect_error = [&](int ranks, const Arguments& more, const std::string& part) {
    const fs::path run_dir = folder_ / "refused";
    const Arguments all = with(kReproducible, more);
    const Answer answer = ranks > 0 ? train_ranks(ranks, run_dir, all) : train(run_dir, all);
    EXPECT_EQ(answer.exit_code, 2) << answer.output;
    EXPECT_NE(answer.output.find(part), std::string::npos) << answer.output;
    EXPECT_FALSE(fs::exists(run_dir));
  };
  expect_error(3, {"train.batch_size=12"},
               "train.batch_size=12: a batch of 12 is less than one micro-batch of 6 "
               "(train.reproducible_sequences) for each of 3 ranks");
  expect_error(
      0, {"train.micro_batch_tokens=191"},
      "train.micro_batch_tokens=191: micro-batches of 191 tokens have no room for the 192 that "
      "train.reproducible computes at once, train.reproducible_sequences (6) of 32");
  expect_error(
      0, {"runtime.allreduce_dtype=bf16"},
      "runtime.allreduce_dtype=bf16: with train.reproducible gradients travel as whole numbers");
}

}  // namespace
}  // namespace bert
