// What is said and decided before the first step.
#include "train/run_plan.h"

#include <filesystem>
#include <string>

#include <gtest/gtest.h>

#include "kernels/cpu_module.h"
#include "model/bert_for_pretraining.h"
#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/one_rank.h"
#include "tests/support/wrapped_device.h"
#include "train/checkpoint/run_directory.h"
#include "train/rank_agreement.h"
#include "train/step/device_batch.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

Config parse(const std::string& yaml) { return parse_config(yaml, "a.yaml"); }

template <typename F>
std::string error_of(const F& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no InputError";
  return "";
}

// A device of which so much is left, and one of several ranks on a machine.
class SmallDevice final : public WrappedDevice {
 public:
  explicit SmallDevice(std::size_t available) : available_(available) {}
  std::string name() const override { return "a small device"; }
  void* allocate(std::size_t) override { throw_runtime_error("nothing may be allocated yet"); }
  std::size_t memory_available() const override { return available_; }

 private:
  std::size_t available_;
};

// Rank 0 of two; the other one's least is `other`.
class HalfCommunicator final : public OneRank {
 public:
  void all_reduce_max(std::vector<std::int64_t>& values) override {
    values[0] = std::max(values[0], -other);
  }

  std::int64_t other = 0;
};

class MemoryPlanTest : public testing::Test {
 protected:
  Config config(const std::string& more = "") const {
    return parse(
        "model: {preset: bert_mini}\nschedule: {warmup_steps: 0}\ntrain: {batch_size: 256, "
        "sequence_length: 128, max_steps: 100" +
        more + "}");
  }
  BertForPretraining& model() {
    BertConfig bert = bert_preset("bert_mini");
    bert.vocab_size = 1000;
    model_ = std::make_unique<BertForPretraining>(bert, BertForPretraining::Heads::mlm);
    return *model_;
  }
  Backend backend(std::size_t available) const {
    Backend result = make_backend(Precision::fp32, 1);
    result.device = std::make_unique<SmallDevice>(available);
    return result;
  }
  // Of 4096 tokens, the most that auto takes on a CPU.
  std::size_t most_bytes() {
    const Backend any = backend(0);
    return plan_memory(model(), any, run_capacity(config(), 1, 4096), {}).total();
  }
  std::size_t snapshot() {
    const Backend any = backend(0);
    return plan_memory(model(), any, run_capacity(config(), 1, 4096), {}).snapshot;
  }
  std::int64_t choose(std::size_t available, const Config& config,
                      std::optional<std::int64_t> earlier = std::nullopt) {
    const Backend small = backend(available + snapshot());
    const auto alone = make_local_communicator();
    return choose_auto_tokens(config, model(), small, *alone, earlier);
  }

  std::unique_ptr<BertForPretraining> model_;
};

// What is counted is what is allocated afterwards.
TEST_F(MemoryPlanTest, IsWhatIsAllocated) {
  for (const bool recompute : {false, true}) {
    const Backend cpu = make_backend(Precision::fp32, 1);
    const Capacity capacity = run_capacity(config(), 1, 512);
    BertForPretraining& allocated = model();
    TrainConfig train;
    train.recompute = recompute;
    train.reproducible = recompute;
    const MemoryPlan plan = plan_memory(allocated, cpu, capacity, train);
    EXPECT_EQ(plan.fixed_point_sums, recompute ? 2 * plan.gradients : 0);  // 64 bits each, not 32
    allocated.allocate(*cpu.device, *cpu.ops, capacity, true, recompute);
    EXPECT_EQ(plan.activations, allocated.activation_bytes());
    EXPECT_EQ(plan.parameters, allocated.parameters().values().bytes());
    EXPECT_EQ(plan.gradients, allocated.parameters().gradients().bytes());
    EXPECT_EQ(plan.moments, 2 * allocated.parameters().values().bytes());
    EXPECT_EQ(plan.compute_copies, 0u);
    EXPECT_EQ(plan.snapshot, 3 * plan.parameters);
    EXPECT_GT(plan.batch, 2u * 4 * 4 * 512);  // four numbers a token, on the device and beside it
    model_.reset();                           // before the device
  }
}

TEST_F(MemoryPlanTest, MicroBatchesAreTheLargestThatFit) {
  const std::size_t most = most_bytes();
  EXPECT_EQ(choose(100 * most, config()), 4096);
  EXPECT_EQ(choose(most * 10 / 9 + 1000, config()), 4096);
  const std::size_t less = most * 10 / 9 - most / 50;  // not quite a tenth to spare
  const std::int64_t chosen = choose(less, config());
  EXPECT_LT(chosen, 4096);
  EXPECT_GE(chosen, 4096 - 2 * 256);
  // The next one would not fit, this one does.
  const Backend any = backend(0);
  const auto bytes = [&](std::int64_t tokens) {
    return plan_memory(model(), any, run_capacity(config(), 1, tokens), {}).total();
  };
  EXPECT_LE(bytes(chosen), less - less / 10);
  EXPECT_GT(bytes(chosen + 256), less - less / 10);
  // With recomputation the same memory holds more.
  EXPECT_EQ(choose(less, config(", recompute: true")), 4096);
}

TEST_F(MemoryPlanTest, WhatWasChosenBeforeStaysWhileItFits) {
  const std::size_t most = most_bytes();
  EXPECT_EQ(choose(100 * most, config(), 1024), 1024);
  // A tenth to spare is not asked for again.
  EXPECT_EQ(choose(most + 1000, config(), 4096), 4096);
  EXPECT_LT(choose(most - most / 10, config(), 4096), 4096);
}

TEST_F(MemoryPlanTest, TheSmallestOfAnyRank) {
  const Backend large = backend(std::size_t{1} << 40);
  HalfCommunicator two;
  two.other = 768;
  EXPECT_EQ(choose_auto_tokens(config(), model(), large, two, std::nullopt), 768);
  two.other = 1 << 20;
  EXPECT_EQ(choose_auto_tokens(config(), model(), large, two, std::nullopt), 4096);
  // Ranks of a machine share what is left beside the snapshot.
  EXPECT_EQ(memory_for_a_rank(backend(1000), two, 200), 400u);
  EXPECT_EQ(memory_for_a_rank(backend(100), two, 200), 0u);
}

TEST_F(MemoryPlanTest, WhatCannotFitIsRefused) {
  const std::string message = error_of([&] { choose(10 << 20, config()); });
  EXPECT_NE(message.find("MB are needed for micro-batches of 256 tokens in sequences of up to 128, "
                         "and 10.5 MB of a small device are free"),
            std::string::npos)
      << message;
  EXPECT_NE(message.find("train.recompute: true"), std::string::npos) << message;
  // A number that was given is not made smaller.
  const Config given = config(", micro_batch_tokens: 32768");
  const std::size_t most = most_bytes();
  EXPECT_EQ(choose(most, config()) > 0, true);
  EXPECT_NE(error_of([&] { choose(most, given); }).find("a.yaml:3: train.micro_batch_tokens: "),
            std::string::npos);
}

TEST_F(MemoryPlanTest, APhaseThatNeedsTooMuchIsNamed) {
  const Config phased =
      config(", phases: [{from: 0.5, micro_batch_tokens: 32768}, {from: 0.9, batch_size: 8}]");
  const std::size_t most = most_bytes();
  const std::string message = error_of([&] { choose(most, phased); });
  EXPECT_TRUE(message.starts_with("a.yaml:3: train.phases[0].micro_batch_tokens: ")) << message;
  EXPECT_NE(message.find("micro-batches of 32768 tokens"), std::string::npos) << message;
  EXPECT_NE(message.find("a smaller train.micro_batch_tokens"), std::string::npos) << message;
}

// As fine-tuning asks: from one sequence on, in steps of a sixteenth, and no more than a step has.
TEST_F(MemoryPlanTest, ChoosesWithinARange) {
  const std::size_t most = most_bytes();
  const auto choose_in = [&](std::int64_t least, std::int64_t greatest, std::size_t available,
                             std::optional<std::int64_t> earlier = std::nullopt) {
    const Backend small = backend(available + snapshot());
    MicroBatchRange range;
    range.capacity = [this](std::int64_t tokens) { return run_capacity(config(), 1, tokens); };
    range.least = least;
    range.most = greatest;
    range.earlier = earlier;
    range.where = "here";
    return choose_tokens(range, {}, model(), small, *make_local_communicator());
  };
  EXPECT_EQ(choose_in(128, 500, 100 * most), 500);
  EXPECT_EQ(choose_in(128, 500, 100 * most, 300), 300);
  const std::int64_t chosen = choose_in(128, 4096, most);
  EXPECT_LT(chosen, 4096);
  EXPECT_GT(chosen, 4096 / 2);
  // What was chosen before stays while it fits, without a tenth to spare.
  EXPECT_EQ(choose_in(128, 4096, most + 1000, 4096), 4096);
  const std::string message = error_of([&] { choose_in(128, 500, 10 << 20); });
  EXPECT_TRUE(message.starts_with("here: ")) << message;
  EXPECT_NE(message.find("what helps: train.recompute: true, "), std::string::npos) << message;
}

TEST(PhaseCapacity, IsSharedAmongRanks) {
  const Config config = parse(
      "schedule: {warmup_steps: 0}\n"
      "train: {batch_size: 10, sequence_length: 32, max_steps: 100, phases: [{from: 0.5, "
      "sequence_length: 512, batch_size: 4}]}");
  const std::vector<Phase> phases = config.phases();
  EXPECT_EQ(phase_capacity(config, phases[0], 1, 4096).tokens, 320);
  EXPECT_EQ(phase_capacity(config, phases[0], 4, 4096).tokens, 3 * 32);
  EXPECT_EQ(phase_capacity(config, phases[0], 1, 64).tokens, 64);
  EXPECT_EQ(phase_capacity(config, phases[1], 1, 64).tokens, 512);  // a whole sequence at least
  EXPECT_EQ(
      error_of([&] { phase_capacity(config, phases[1], 5, 64); }),
      "a.yaml:2: train.phases[0].batch_size: a batch of 4 is less than one sequence for each of 5 "
      "ranks");
  EXPECT_EQ(run_capacity(config, 1, 4096).tokens, 2048);
  EXPECT_EQ(run_capacity(config, 1, 4096).sequences, 10);
  EXPECT_EQ(run_capacity(config, 1, 4096).max_seqlen, 512);
}

TEST(Checkpoints, HowManyLieOnDisk) {
  const auto most = [](const std::string& train, const std::string& checkpoint) {
    return most_checkpoints(parse("schedule: {warmup_steps: 0}\ntrain: {" + train +
                                  "}\nevaluation: {every_steps: 60}\ncheckpoint: {" + checkpoint +
                                  "}"));
  };
  EXPECT_EQ(most("max_steps: 100", "every_steps: 10, keep: 3"), 5);
  EXPECT_EQ(most("max_steps: 100", "every_steps: 40, keep: 3"), 4);  // 40, 60, 80, 100
  EXPECT_EQ(most("max_steps: 60", "every_steps: 0, keep: 3"), 1);
  EXPECT_EQ(most("max_steps: 100", "every_steps: 0, keep: 3"), 2);
  EXPECT_EQ(checkpoint_bytes(1000, 4), 12000u);
}

TEST(RunDirectory, DiskSpace) {
  const TemporaryFolder folder;
  const fs::path run_dir = folder / "run/that/is/not/there";
  EXPECT_FALSE(check_disk_space(run_dir, 3, 1000));
  const std::string message = error_of([&] { check_disk_space(run_dir, 3, std::size_t{1} << 50); });
  EXPECT_NE(message.find("3377699.72 GB more are needed, and "), std::string::npos) << message;
  EXPECT_NE(message.find(" GB are free on the disk of " + folder.path().string()),
            std::string::npos)
      << message;
  // What is there already is not needed again.
  const std::size_t free = fs::space(folder.path()).available;
  EXPECT_TRUE(check_disk_space(run_dir, 1, free - free / 20));
  EXPECT_THROW(check_disk_space(run_dir, 2, free - free / 20), InputError);
  fs::create_directories(run_dir / "checkpoints" / "step_00000010");
  EXPECT_TRUE(check_disk_space(run_dir, 2, free - free / 20));
}

TEST(RunDirectory, TheProbeLeavesNothing) {
  const TemporaryFolder folder;
  const auto before = fs::last_write_time(folder.path());
  check_writable(folder / "run/of/mine");
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_EQ(fs::last_write_time(folder.path()), before);
}

RunPlan two_phases() {
  RunPlan plan;
  plan.phases = {{.first_step = 0,
                  .end_step = 90,
                  .sequence_length = 128,
                  .batch_size = 10,
                  .samples = 300,
                  .sample_tokens = 100.0},
                 {.first_step = 90,
                  .end_step = 100,
                  .sequence_length = 512,
                  .batch_size = 10,
                  .samples = 75,
                  .sample_tokens = 400.0}};
  plan.max_steps = 100;
  plan.checkpoint_every = 50;
  return plan;
}

TEST(RunPlan, CountsTokensAndEpochs) {
  const RunPlan plan = two_phases();
  EXPECT_EQ(plan.tokens(), 90 * 1000 + 10 * 4000);
  EXPECT_NEAR(plan.epochs(), 3.0 + 10 / 7.5, 1e-12);
  EXPECT_EQ(plan.phases[1].step_tokens_at_most(), 5120);
  const auto json = to_json(plan);
  EXPECT_EQ(json["tokens"], 130000.0);
  EXPECT_EQ(json["phases"][1]["first_step"], 90);
}

TEST(TimeEstimate, IsTheMeanOfTheStepsAfterTheFirst) {
  TimeEstimate estimate;
  for (int i = 0; i < TimeEstimate::kSkipped; ++i) EXPECT_FALSE(estimate.add(100.0));
  for (int i = 1; i < TimeEstimate::kTimed; ++i) EXPECT_FALSE(estimate.add(i % 2 ? 1.0 : 3.0));
  EXPECT_EQ(estimate.add(3.0), 2.0);
  EXPECT_FALSE(estimate.add(2.0));

  // 80 steps of 2 s, and 10 of four times the tokens.
  EXPECT_EQ(
      describe_estimate(two_phases(), 10, 2.0),
      "estimated: 2 s a step, 4m00s for the rest without evaluations, a checkpoint every 1m40s");
  // In the second phase, 5 of its own.
  EXPECT_EQ(
      describe_estimate(two_phases(), 95, 2.0),
      "estimated: 2 s a step, 10s for the rest without evaluations, a checkpoint every 1m40s");
  EXPECT_EQ(describe_end(40, 88000, 10.0, true),
            "finished: 40 steps in 10s, 0.25 s a step, 8.8k tokens/s, evaluations and checkpoints "
            "included");
  EXPECT_EQ(describe_end(1, 100, 0.125, false),
            "stopped: 1 step in 0.12s, 0.12 s a step, 800 tokens/s, evaluations and checkpoints "
            "included");
  const std::string often = describe_estimate(two_phases(), 10, 0.001);
  EXPECT_TRUE(often.ends_with(", a checkpoint every 0.05s")) << often;
}

TEST(RunPlanText, TellsTheSharesOfWeightedCorpora) {
  RunPlan plan = two_phases();
  plan.corpora = {"a", "b"};
  EXPECT_NE(describe(plan).find("corpus      a + b: "), std::string::npos) << describe(plan);
  EXPECT_FALSE(to_json(plan).contains("corpus_shares"));
  plan.shares = {0.75, 0.25};
  EXPECT_NE(describe(plan).find("corpus      a (75 % of samples) + b (25 % of samples): "),
            std::string::npos)
      << describe(plan);
  EXPECT_EQ(to_json(plan)["corpus_shares"].dump(), "[0.75,0.25]");
}

TEST(RankAgreement, NamesTheFirstDifference) {
  const Facts root{{"the program", "bert.cu 1"}, {"seed", "0"}, {"train.batch_size", "64"}};
  EXPECT_FALSE(first_difference(root, root));
  Facts here = root;
  here[0].second = "bert.cu 2";
  here[2].second = "32";
  EXPECT_EQ(first_difference(here, root), "the program is bert.cu 2 here, bert.cu 1 on rank 0");
  here[0] = root[0];
  EXPECT_EQ(first_difference(here, root), "train.batch_size is 32 here, 64 on rank 0");
  here.pop_back();
  EXPECT_EQ(first_difference(here, root), "train.batch_size is unknown here, 64 on rank 0");
  EXPECT_EQ(first_difference(root, here), "train.batch_size is 64 here, unknown on rank 0");
}

// Whatever can be configured is compared, and what made the program.
TEST(RankAgreement, ComparesEveryKey) {
  const Facts facts = facts_of(parse("train: {batch_size: 77}"));
  EXPECT_EQ(facts.front().first, "the program");
  EXPECT_NE(facts.front().second.find("commit"), std::string::npos);
  const auto other = facts_of(parse("{}"));
  EXPECT_EQ(first_difference(facts, other), "train.batch_size is 77 here, 256 on rank 0");
  EXPECT_GT(facts.size(), 50u);
}

}  // namespace
}  // namespace bert
