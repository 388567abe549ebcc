// tools/gpu_check.sh with stand-ins for the programs of a bundle: what its reports say and its exit
// code, when all is well and when a part is not.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Writes as many losses as the check wants, and an evaluation.
constexpr const char* kTrain = R"sh(#!/bin/bash
[[ "$1" == --version ]] && exit 0
if [[ "$*" == *--dry-run* ]]; then
  [[ -n "$NO_GPU" ]] && { echo 'error: there is "no" driver'; exit 2; }
  echo 'computing   Stand-in, cuda bf16; ranks: local'
  exit
fi
for argument in "$@"; do
  [[ "$argument" == run_dir=* ]] && run="${argument#run_dir=}"
  [[ "$argument" == *"=$BROKEN_PRECISION" ]] && shifted=1
done
mkdir -p "$run/checkpoints/step_00000100"
for step in {1..100}; do
  echo "{\"step\":$step,\"loss\":$((shifted + 4)).$((200 - step))5,\"learning_rate\":1e-3}"
done > "$run/metrics.jsonl"
echo '{"step":100,"val_loss":4.125,"val_perplexity":61.9}' >> "$run/metrics.jsonl"
)sh";
constexpr const char* kEvaluate = R"sh(#!/bin/bash
echo '{
  "mlm_loss": 4.1251,
}'
)sh";
// A test or benchmark, which BROKEN makes fail and HANGING never end.
constexpr const char* kProgram = R"sh(#!/bin/bash
echo "[       OK ] Ops.layer_norm_cuda_bf16 (1 ms)"
if [[ "$BROKEN" == "$(basename "$0")" ]]; then
  echo "[  FAILED  ] Ops.layer_norm_cuda_bf16, \"x\" | y"
  exit 1
fi
if [[ "$HANGING" == "$(basename "$0")" ]]; then sleep 100; fi
echo "[  PASSED  ] 1 test."
)sh";
constexpr const char* kNvidiaSmi = R"sh(#!/bin/bash
[[ -n "$NO_GPU$NO_NVIDIA_SMI" ]] && exit 9
if [[ "$1" == -L ]]; then echo "GPU 0"; exit; fi
[[ "$1" == --query-gpu=compute_cap ]] && { echo 9.0; exit; }
echo 'NVIDIA "Stand-in", 580.1, 143771 MiB, 9.0'
)sh";

class GpuCheck : public testing::Test {
 protected:
  void SetUp() override {
    const auto program = [&](const std::string& path, const std::string& text) {
      fs::create_directories((folder_ / path).parent_path());
      write_text(folder_ / path, text);
      fs::permissions(folder_ / path, fs::perms::owner_all);
    };
    program("bundle/bin/train", kTrain);
    program("bundle/bin/evaluate", kEvaluate);
    program("bundle/bin/bert_cuda_backend.so", "");
    for (const char* const name :
         {"intrinsics_gpu_test", "op_backends_test", "optimizer_test", "loss_sums_test",
          "model_backends_test", "bench_step", "bench_kernels"}) {
      program(std::string("bundle/bin/") + name, kProgram);
    }
    program("path/nvidia-smi", kNvidiaSmi);
    program("path/compute-sanitizer", "#!/bin/bash\nexit 0\n");
    fs::create_directories(folder_ / "bundle/tools");
    fs::copy_file(BERT_GPU_CHECK, folder_ / "bundle/tools/gpu_check.sh");
    write_text(folder_ / "bundle/COMMIT", "abc\n");
    run("BROKEN_PRECISION=none " + path("bundle/bin/train") + " run_dir=" + path("cpu"));
    fs::create_directories(folder_ / "bundle/check");
    fs::rename(folder_ / "cpu/metrics.jsonl", folder_ / "bundle/check/cpu_metrics.jsonl");
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // `settings`: variables of the environment for the stand-ins.
  Answer check(const std::string& settings = "") {
    const Answer answer =
        run(fmt::format("BROKEN_PRECISION=none PATH={}:$PATH {} {} --out {}", path("path"),
                        settings, path("bundle/tools/gpu_check.sh"), path("out")));
    report_ = json::parse(read_file(folder_ / "out/gpu_check.json"));
    markdown_ = read_file(folder_ / "out/gpu_check.md");
    return answer;
  }
  json result(const std::string& name) const {
    for (const json& check : report_.at("checks")) {
      if (check.at("name") == name) return check;
    }
    ADD_FAILURE() << "no " << name << " in " << report_.dump(1);
    return {{"result", "missing"}, {"note", ""}};
  }

  TemporaryFolder folder_;
  json report_;
  std::string markdown_;
};

TEST_F(GpuCheck, PassesWhereEverythingDoes) {
  const Answer answer = check();
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(report_.at("passed"), true);
  EXPECT_EQ(report_.at("commit"), "abc");
  EXPECT_EQ(report_.at("gpu"), "NVIDIA \"Stand-in\", 580.1, 143771 MiB, 9.0");
  EXPECT_EQ(report_.at("loss_differences").size(), 4u);
  EXPECT_EQ(report_.at("loss_differences").at("fp32"), "0.00000");
  for (const char* const name :
       {"intrinsics", "ops", "optimizer", "loss_sums", "model", "train_fp32", "losses_fp32",
        "losses_tf32", "losses_bf16", "losses_fp8", "evaluate", "evaluate_agrees", "train_no_graph",
        "graph_changes_nothing", "bench_step", "bench_kernels", "memcheck", "racecheck"}) {
    EXPECT_EQ(result(name).at("result"), "passed") << name;
    EXPECT_NE(markdown_.find(fmt::format("| {} | passed |", name)), std::string::npos) << name;
  }
  EXPECT_EQ(result("ranks").at("result"), "skipped");
  EXPECT_NE(markdown_.find("## bench_kernels"), std::string::npos) << markdown_;
}

TEST_F(GpuCheck, AnyFailingPartFailsTheWhole) {
  EXPECT_EQ(check("BROKEN=optimizer_test").exit_code, 1);
  EXPECT_EQ(report_.at("passed"), false);
  EXPECT_EQ(result("optimizer").at("result"), "failed");
  EXPECT_EQ(result("loss_sums").at("result"), "passed");
  EXPECT_NE(markdown_.find("| optimizer | failed |"), std::string::npos) << markdown_;

  EXPECT_EQ(check("BROKEN=bench_step").exit_code, 1);
  EXPECT_EQ(result("bench_step").at("result"), "failed");

  // Losses that are not the CPU's.
  EXPECT_EQ(check("BROKEN_PRECISION=tf32").exit_code, 1);
  EXPECT_EQ(result("losses_tf32").at("result"), "failed");
  EXPECT_EQ(result("losses_fp32").at("result"), "passed");
  EXPECT_EQ(report_.at("loss_differences").at("tf32"), "1.00000");
}

TEST_F(GpuCheck, WhatHangsIsEnded) {
  EXPECT_EQ(check("HANGING=intrinsics_gpu_test").exit_code, 1);
  EXPECT_EQ(result("intrinsics").at("result"), "failed");
  EXPECT_EQ(result("intrinsics").at("note"), "ran past its time");
  EXPECT_EQ(result("ops").at("result"), "passed");
}

TEST_F(GpuCheck, SaysThatThereIsNoGpu) {
  const Answer answer = check("NO_GPU=1");
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_EQ(report_.at("passed"), false);
  ASSERT_EQ(report_.at("checks").size(), 1u);
  EXPECT_EQ(result("gpu").at("note"), "nvidia-smi finds none; error: there is no driver");
  EXPECT_NE(markdown_.find("GPU: none"), std::string::npos) << markdown_;
}

TEST_F(GpuCheck, AsksTheProgramWhereThereIsNoNvidiaSmi) {
  EXPECT_EQ(check("NO_NVIDIA_SMI=1").exit_code, 0);
  EXPECT_EQ(report_.at("gpu"), "Stand-in, cuda bf16");
  EXPECT_EQ(result("train_fp8").at("result"), "skipped");  // nothing is known of it
}

TEST_F(GpuCheck, RefusesWhatIsNoBundle) {
  fs::remove(folder_ / "bundle/bin/bert_cuda_backend.so");
  const Answer answer = run(path("bundle/tools/gpu_check.sh"));
  EXPECT_EQ(answer.exit_code, 2);
  EXPECT_NE(answer.output.find("is no bundle"), std::string::npos) << answer.output;
  EXPECT_EQ(run(path("bundle/tools/gpu_check.sh") + " --quick").exit_code, 2);
}

// All the time that the check may take is less than eight minutes, whatever hangs.
TEST(GpuCheckScript, TimesAddUpToLessThanEightMinutes) {
  const std::string text = read_file(BERT_GPU_CHECK);
  int total = 0, steps = 0;
  for (auto at = text.find("  step "); at != std::string::npos; at = text.find("  step ", at + 1)) {
    const auto number = text.find_first_of("0123456789", text.find(' ', at + 7));
    const int seconds = std::stoi(text.substr(number));
    const bool training = text.compare(at, 13, "  step \"train") == 0;
    const bool sanitizing = text.compare(at, 14, "  step \"$tool\"") == 0;
    total += seconds * (training ? 6 : sanitizing ? 2 : 1);
    ++steps;
  }
  EXPECT_EQ(steps, 10);
  EXPECT_GT(total, 400);
  EXPECT_LT(total, 480);
}

}  // namespace
}  // namespace bert
