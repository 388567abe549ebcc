// The program `train` as on a GPU, which here is the SIMT harness: a copy of it lies beside a
// bert_cuda_backend.so of the tests (tests/simt/simt_module.cpp) and a libcuda.so.1 that is empty.
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "tests/train/poisoned_run.h"
#include "tests/train/training_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// Heads of 32, so that bf16 goes through the kernels for tensor cores.
const Arguments kSmall = {"model.hidden_size=64",     "train.batch_size=16",
                          "train.max_steps=6",        "evaluation.every_steps=4",
                          "evaluation.max_batches=1", "checkpoint.every_steps=3",
                          "schedule.warmup_steps=2"};

Arguments with(Arguments arguments, const Arguments& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

class GpuTraining : public TrainingTest {
 protected:
  void SetUp() override { ::setenv("LD_LIBRARY_PATH", BERT_FAKE_DRIVER, 1); }

  // `ranks`: 0 without mpirun.
  fs::path trained(const std::string& name, const Arguments& more, int ranks = 0) {
    const fs::path run_dir = folder_ / name;
    const Arguments all = with(kSmall, more);
    const Answer answer = ranks > 0 ? train_ranks(ranks, run_dir, all) : train(run_dir, all);
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    output_ = answer.output;
    return run_dir;
  }
  // A run to step 6, and one that is resumed at its step 3: they end with the same bytes. Products
  // are computed otherwise unless their choice is handed on: by the checkpoint, and to all ranks.
  void expect_exact_resume(int ranks, const Arguments& more = {}) {
    const fs::path straight = trained("straight", more, ranks), resumed = folder_ / "resumed";
    const fs::path checkpoint = checkpoint_of(straight, 3);
    fs::create_directories(resumed / "checkpoints");
    fs::copy(checkpoint, resumed / "checkpoints" / checkpoint.filename(),
             fs::copy_options::recursive);
    ::setenv("BERT_TEST_CHOICE", "1", 1);  // it would choose otherwise
    trained("resumed", with(more, {"--resume", "auto"}), ranks);
    ::unsetenv("BERT_TEST_CHOICE");
    const auto expected = contents(checkpoint_of(straight, 6));
    const auto found = contents(checkpoint_of(resumed, 6));
    ASSERT_EQ(expected.size(), found.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(expected[i] == found[i]) << expected[i].first;
    }
    EXPECT_NE(read_file(checkpoint / "trainer_state.json").find("\"way 0 "), std::string::npos);
  }

  std::string output_;
};

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

TEST_F(GpuTraining, F32FollowsTheCpu) {
  const fs::path cpu = trained("cpu", {"runtime.device=cpu"});
  EXPECT_NE(output_.find("cpu f32 with"), std::string::npos) << output_;
  const fs::path gpu = trained("gpu", {"runtime.device=cuda", "runtime.precision=fp32"});
  EXPECT_NE(output_.find("SIMT harness, simt f32"), std::string::npos) << output_;
  EXPECT_LT(largest_difference(losses(cpu), losses(gpu)), 2e-4);
  // Every step is logged once and in order, though a GPU's are known one step late.
  const auto a = read_metrics(cpu), b = read_metrics(gpu);
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].at("step"), b[i].at("step"));
    EXPECT_EQ(a[i].contains("val_loss"), b[i].contains("val_loss"));
  }
}

TEST_F(GpuTraining, Bf16FollowsF32) {
  const fs::path wide = trained("f32", {"runtime.precision=fp32"});
  const fs::path narrow = trained("bf16", {});
  EXPECT_NE(output_.find("SIMT harness, simt bf16"), std::string::npos) << output_;
  const double difference = largest_difference(losses(wide), losses(narrow));
  EXPECT_GT(difference, 0.0);
  EXPECT_LT(difference, 0.02);  // of losses about 5
  RecordProperty("largest_difference", std::to_string(difference));
}

TEST_F(GpuTraining, Fp8FollowsBf16) {
  const fs::path wide = trained("bf16", {});
  const fs::path narrow = trained("fp8", {"runtime.precision=fp8"});
  EXPECT_NE(output_.find("SIMT harness, simt bf16 with fp8 products"), std::string::npos)
      << output_;
  const double difference = largest_difference(losses(wide), losses(narrow));
  EXPECT_GT(difference, 0.0);
  EXPECT_LT(difference, 0.05);  // of losses about 5
  RecordProperty("largest_difference", std::to_string(difference));
}

TEST_F(GpuTraining, Fp8ResumesBitForBit) { expect_exact_resume(0, {"runtime.precision=fp8"}); }

TEST_F(GpuTraining, RecordingChangesNothing) {
  const Arguments several = {"train.micro_batch_tokens=128"};  // micro-batches in a step
  const fs::path recorded = trained("recorded", several);
  const fs::path plain = trained("plain", with(several, {"runtime.cuda_graph=false"}));
  EXPECT_EQ(comparable_metrics(recorded), comparable_metrics(plain));
}

// When a step turns out to be poisoned, the one after it is queued already: it is refused as well,
// and made again. What is skipped, named and logged is what a CPU has.
TEST_F(GpuTraining, APoisonedBatchIsSkippedAlone) {
  const PoisonedRun poison(folder_.path());
  const std::set<std::int64_t> expected = poison.poisoned_steps(BERT_TRAIN, 12);
  ASSERT_GE(expected.size(), 1u);
  const auto trained = [&](const std::string& name, const std::string& more) {
    const Answer answer = run(poison.command(BERT_TRAIN, folder_ / name, more));
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    for (const std::int64_t step : expected) {
      EXPECT_NE(answer.output.find(fmt::format("step {}: refused", step)), std::string::npos)
          << answer.output;
    }
    EXPECT_NE(answer.output.find("in " + poison.sample()), std::string::npos) << answer.output;
    std::vector<double> losses;  // NaN of a step that was refused
    std::int64_t steps = 0;
    for (const auto& record : read_metrics(folder_ / name)) {
      if (!record.contains("loss")) continue;
      EXPECT_EQ(record.at("step"), ++steps);
      EXPECT_EQ(record.at("loss").is_null(), expected.contains(steps));
      losses.push_back(record.at("loss").is_null() ? 0.0 : record.at("loss").get<double>());
    }
    EXPECT_EQ(steps, 12);
    return losses;
  };
  const std::vector<double> cpu = trained("cpu", "runtime.device=cpu"),
                            gpu = trained("gpu", "runtime.precision=fp32");
  EXPECT_LT(largest_difference(cpu, gpu), 2e-4);
}

// The other policies end as on a CPU, though the step after the poisoned one was queued.
TEST_F(GpuTraining, APoisonedBatchStopsOrRollsBack) {
  const PoisonedRun poison(folder_.path());
  const std::int64_t bad = *poison.poisoned_steps(BERT_TRAIN, 12).begin();
  const auto state_after = [&](const std::string& name, const std::string& more, int exit_code,
                               std::int64_t step) {
    const Answer answer = run(poison.command(BERT_TRAIN, folder_ / name, more));
    EXPECT_EQ(answer.exit_code, exit_code) << answer.output;
    auto state = nlohmann::json::parse(
        read_file(checkpoint_of(folder_ / name, step) / "trainer_state.json"));
    // What is of a device, or rounded otherwise.
    for (const char* key : {"device", "product_choices", "best_loss", "auto_micro_batch_tokens"})
      state.erase(key);
    for (const char* key : {"mean", "variance"}) state["losses"].erase(key);
    EXPECT_EQ(state["losses"].contains("last"), true);
    state["losses"]["last"] = state["losses"]["last"].is_null();
    return state;
  };
  for (const std::string policy : {"stop", "rollback"}) {
    const bool stops = policy == "stop";
    const std::string more = fmt::format(
        "divergence.policy={} checkpoint.every_steps=2 train.max_steps={} evaluation.max_batches=1",
        policy, bad + 2);
    const auto cpu = state_after(policy + "_cpu", more + " runtime.device=cpu", stops ? 1 : 0,
                                 stops ? bad - 1 : bad + 2);
    const auto gpu = state_after(policy + "_gpu", more + " runtime.precision=fp32", stops ? 1 : 0,
                                 stops ? bad - 1 : bad + 2);
    EXPECT_EQ(gpu, cpu) << policy;
  }
}

TEST_F(GpuTraining, ResumesBitForBit) { expect_exact_resume(0); }

TEST_F(GpuTraining, ChoicesOfProductsMatterToTheBit) {
  const fs::path run = trained("run", {"train.max_steps=2"});
  ::setenv("BERT_TEST_CHOICE", "1", 1);
  const fs::path other = trained("other", {"train.max_steps=2"});
  ::unsetenv("BERT_TEST_CHOICE");
  EXPECT_NE(read_file(checkpoint_of(run, 2) / "model.safetensors"),
            read_file(checkpoint_of(other, 2) / "model.safetensors"));
}

TEST_F(GpuTraining, ProductsOfAnotherGpuAreChosenAnew) {
  trained("run", {"train.max_steps=3"});
  ::setenv("BERT_TEST_OTHER_GPU", "1", 1);
  trained("run", {"train.max_steps=4", "--resume", "auto"});
  ::unsetenv("BERT_TEST_OTHER_GPU");
  EXPECT_NE(output_.find("products are chosen anew"), std::string::npos) << output_;
}

TEST_F(GpuTraining, CheckpointsMoveBetweenDevices) {
  const fs::path run = trained("run", {"runtime.device=cpu", "train.max_steps=4"});
  trained("run", {"train.max_steps=5", "--resume", "auto"});
  EXPECT_NE(output_.find("was written in fp32 on cpu f32"), std::string::npos) << output_;
  trained("run", {"runtime.device=cpu", "--resume", "auto"});
  EXPECT_NE(output_.find("was written in bf16 on SIMT harness"), std::string::npos) << output_;
  const std::vector<double> moved = losses(run);
  ASSERT_EQ(moved.size(), 6u);
  const fs::path cpu = trained("cpu", {"runtime.device=cpu"});
  EXPECT_LT(largest_difference(losses(cpu), moved), 0.02);
}

class GpuRanks : public GpuTraining {
 protected:
  void SetUp() override {
    GpuTraining::SetUp();
    if (!runs_under_mpirun(BERT_TRAIN)) GTEST_SKIP() << "MPI is not installed";
  }
};

TEST_F(GpuRanks, SumTheirGradientsByLayer) {
  const Arguments f32 = with(kSmall, {"runtime.precision=fp32"});
  const fs::path one = trained("one", {"runtime.precision=fp32"}), two = folder_ / "two";
  Answer answer = train_ranks(2, two, f32);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("gradients by test, f32"), std::string::npos) << answer.output;
  EXPECT_LT(largest_difference(losses(one), losses(two)), 1e-4);
  answer = train_ranks(2, folder_ / "narrow", with(f32, {"runtime.allreduce_dtype=bf16"}));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const double difference = largest_difference(losses(two), losses(folder_ / "narrow"));
  EXPECT_GT(difference, 0.0);
  EXPECT_LT(difference, 0.02);
}

TEST_F(GpuRanks, RecordingChangesNothing) {
  const Arguments several = {"train.micro_batch_tokens=128"};  // micro-batches in a step
  const fs::path recorded = trained("recorded", several, 2);
  const fs::path plain = trained("plain", with(several, {"runtime.cuda_graph=false"}), 2);
  EXPECT_EQ(comparable_metrics(recorded), comparable_metrics(plain));
}

// Of enough sequences that ranks meet sizes that the others do not.
TEST_F(GpuRanks, ResumeBitForBit) { expect_exact_resume(2, {"train.batch_size=64"}); }

// train.reproducible, with what a GPU records and without.
TEST_F(GpuRanks, ReproducibleForAnyNumber) {
  const Arguments reproducible = {"train.reproducible=true", "train.reproducible_sequences=3",
                                  "objective.next_sentence=true"};
  const fs::path one = trained("one", reproducible);
  EXPECT_NE(output_.find("simt bf16"), std::string::npos) << output_;
  for (const int ranks : {2, 3}) {
    const fs::path run = trained(
        std::to_string(ranks),
        with(reproducible, {ranks == 2 ? "runtime.cuda_graph=false" : "runtime.cuda_graph=true",
                            ranks == 2 ? "train.micro_batch_tokens=96" : "seed=3"}),
        ranks);
    if (ranks > 1) {
      EXPECT_NE(output_.find("gradients by test, i64"), std::string::npos) << output_;
    }
    EXPECT_EQ(comparable_metrics(run), comparable_metrics(one)) << ranks << " ranks";
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      EXPECT_TRUE(read_file(checkpoint_of(run, 6) / file) ==
                  read_file(checkpoint_of(one, 6) / file))
          << ranks << " ranks: " << file;
    }
  }
  const std::vector<double> plain = losses(trained("plain", {"objective.next_sentence=true"}));
  EXPECT_LT(largest_difference(losses(one), plain), 0.02);  // bf16's rounding
}

// Rank 1 cannot take over what rank 0 has chosen.
TEST_F(GpuRanks, OfOtherGpusSayThatTheyChooseThemselves) {
  ::setenv("BERT_TEST_OTHER_GPU", "1", 1);
  trained("run", {"train.max_steps=2"}, 2);
  ::unsetenv("BERT_TEST_OTHER_GPU");
  EXPECT_NE(output_.find("warning: rank 1 has another GPU or cuBLAS than rank 0"),
            std::string::npos)
      << output_;
}

// Rank 1 fails in its second step or so, while rank 0 is in a reduction that it does not come to.
TEST_F(GpuRanks, OneThatFailsInAReductionEndsAll) {
  ::setenv("BERT_TEST_FAILING_RANK", "1", 1);
  const auto start = std::chrono::steady_clock::now();
  const Answer answer = train_ranks(2, folder_ / "run", with(kSmall, {"train.max_steps=1000"}));
  ::unsetenv("BERT_TEST_FAILING_RANK");
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_NE(answer.output.find("error: rank 1: ncclAllReduce failed on rank 1: unhandled system"),
            std::string::npos)
      << answer.output;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST_F(GpuTraining, TheLackOfAGpuIsSaid) {
  ::setenv("BERT_TEST_NO_GPU", "1", 1);
  const Answer automatic = train(folder_ / "a", with(kSmall, {"--dry-run"}));
  EXPECT_EQ(automatic.exit_code, 0) << automatic.output;
  EXPECT_NE(automatic.output.find("(not a GPU: the test wants none)"), std::string::npos)
      << automatic.output;
  const Answer asked = train(folder_ / "b", with(kSmall, {"runtime.device=cuda"}));
  EXPECT_EQ(asked.exit_code, 2);
  EXPECT_EQ(asked.output,
            "error: argument runtime.device=cuda: cuda is not available: the test wants none; use "
            "cpu or auto\n");
  const Answer narrow = train(folder_ / "c", with(kSmall, {"runtime.precision=tf32"}));
  EXPECT_EQ(narrow.exit_code, 2);
  EXPECT_EQ(narrow.output,
            "error: argument runtime.precision=tf32: tf32 needs a GPU, and the test wants none; "
            "use fp32, bf16 or "
            "auto\n");
  const Answer eight = train(folder_ / "d", with(kSmall, {"runtime.precision=fp8"}));
  EXPECT_EQ(eight.exit_code, 2);
  EXPECT_EQ(eight.output,
            "error: argument runtime.precision=fp8: fp8 needs a GPU, and the test wants none; use "
            "fp32, bf16 or "
            "auto\n");
  ::unsetenv("BERT_TEST_NO_GPU");
}

// The exception is thrown in the module and caught in the program, with its type.
TEST_F(GpuTraining, AFailingGpuEndsTheRunWithItsMessage) {
  ::setenv("BERT_TEST_BROKEN_GPU", "1", 1);
  const Answer answer = train(folder_ / "a", kSmall);
  ::unsetenv("BERT_TEST_BROKEN_GPU");
  EXPECT_EQ(answer.exit_code, 1);
  EXPECT_EQ(answer.output, "error: cudaMalloc failed on GPU 0: out of memory\n");
  EXPECT_FALSE(fs::exists(folder_ / "a"));
}

TEST_F(GpuTraining, Fp8IsRefusedByAGpuThatHasNone) {
  ::setenv("BERT_TEST_OLD_GPU", "1", 1);
  const Answer answer = train(folder_ / "a", with(kSmall, {"runtime.precision=fp8"}));
  ::unsetenv("BERT_TEST_OLD_GPU");
  EXPECT_EQ(answer.exit_code, 2);
  EXPECT_EQ(answer.output,
            "error: argument runtime.precision=fp8: fp8 needs a GPU of compute capability 8.9 or "
            "later (Ada, "
            "Hopper and later), and SIMT harness has 8.0; use bf16\n");
  EXPECT_FALSE(fs::exists(folder_ / "a"));
}

TEST_F(GpuTraining, WhatAGpuDoesNotComputeIsRefused) {
  const Answer answer =
      train(folder_ / "a", with(kSmall, {"runtime.device=cuda", "runtime.precision=fp64"}));
  EXPECT_EQ(answer.exit_code, 2);
  EXPECT_NE(answer.output.find("fp64 is computed on a CPU only"), std::string::npos)
      << answer.output;
}

}  // namespace
}  // namespace bert
