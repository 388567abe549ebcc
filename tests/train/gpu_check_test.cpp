// tools/gpu_check.sh with stand-ins for the programs of a bundle: what its reports say and its exit
// code, when all is well and when a part is not.
#include <algorithm>
#include <chrono>

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
if [[ "$1" == --version ]]; then
  echo "$LD_LIBRARY_PATH" > "$(dirname "$0")/libraries"
  exit
fi
if [[ "$*" == *--dry-run* ]]; then
  [[ -n "$NO_GPU" ]] && { echo 'error: there is "no" driver'; exit 2; }
  echo 'computing   Stand-in, cuda bf16; ranks: local'
  exit
fi
for argument in "$@"; do
  [[ "$argument" == run_dir=* ]] && run="${argument#run_dir=}"
  [[ "$argument" == *"=$BROKEN_PRECISION" ]] && shifted=1
  [[ "$argument" == runtime.cuda_graph=false ]] && shifted=${GRAPHS_CHANGE:-$shifted}
done
mkdir -p "$run/checkpoints/step_00000100"
last=100
[[ "$1" == */real.yaml ]] && last=300
[[ "$1" == */speed.yaml ]] && last=160
for ((step = 1; step <= last; step++)); do
  echo "{\"step\":$step,\"loss\":$((shifted + 4)).$((400 - step))5,\"tokens_per_second\":$((step))e3}"
done > "$run/metrics.jsonl"
echo "{\"step\":$last,\"val_loss\":$((shifted + 4)).125,\"val_perplexity\":61.9}" >> "$run/metrics.jsonl"
)sh";
constexpr const char* kEvaluate = R"sh(#!/bin/bash
echo '{
  "mlm_loss": 4.1251,
}'
)sh";
// A test or benchmark, which BROKEN makes fail and HANGING never end. IDLE tests are all skipped,
// and so are those of every part after the first if IDLE_PARTS is set.
constexpr const char* kProgram = R"sh(#!/bin/bash
[[ "$IDLE" == "$(basename "$0")" ]] && { echo "[  SKIPPED ] Ops.layer_norm_cuda_bf16"; exit; }
[[ -n "$IDLE_PARTS" && "$GTEST_SHARD_INDEX" -gt 0 ]] && exit
echo "[       OK ] Ops.layer_norm_cuda_bf16 (1 ms) part $GTEST_SHARD_INDEX of $GTEST_TOTAL_SHARDS"
if [[ "$BROKEN" == "$(basename "$0")" ]]; then
  echo "[  FAILED  ] Ops.layer_norm_cuda_bf16, \"x\" | y (3 ms)"
  echo " 1 FAILED TEST"
  echo "squared_error    5.9e-08"
  exit 1
fi
if [[ "$HANGING" == "$(basename "$0")" ]]; then sleep 100; fi
echo "[  PASSED  ] 1 test."
)sh";
constexpr const char* kNvidiaSmi = R"sh(#!/bin/bash
[[ -n "$NO_GPU$NO_NVIDIA_SMI" ]] && exit 9
if [[ "$1" == -L ]]; then
  for ((i = 0; i < ${GPUS:-1}; ++i)); do echo "GPU $i: Stand-in" && echo "  MIG 1g.18gb Device 0"; done
  exit
fi
[[ "$1" == --query-gpu=compute_cap ]] && { echo 9.0; exit; }
echo 'NVIDIA "Stand-in", 580.1, 143771 MiB, 9.0'
)sh";

// mpirun, which starts one rank only.
constexpr const char* kMpirun = R"sh(#!/bin/bash
while [[ "$1" != */train ]]; do shift; done
exec "$@"
)sh";

// compute-sanitizer, which says so when BROKEN_TOOL finds something.
constexpr const char* kSanitizer = R"sh(#!/bin/bash
tool="$2"
shift 4
"$@"
[[ "$BROKEN_TOOL" == "$tool" ]] || exit 0
echo "========= ERROR SUMMARY: 3 errors"
exit 9
)sh";
// python3, which has PyTorch if PYTORCH is set: "slow" never gets to its second row.
constexpr const char* kPython = R"sh(#!/bin/bash
case "$*" in
  *sysconfig*) echo "$(dirname "$0")/../packages" ;;
  *"import sys, torch"*) [[ -n "$PYTORCH" ]] ;;
  *--warm-only*) echo "as_shipped: ready, 0 s" ;;
  *compare_pytorch.py*)
    echo "| model | T |"
    while [[ "$1" != --rows ]]; do shift; done
    for row in "${@:2}"; do
      [[ "$row" == --* ]] && break
      echo "| $row |"
      [[ "$PYTORCH" == slow ]] && sleep 100
      [[ "$PYTORCH" == broken ]] && { echo 'KeyError: "sdpa"'; exit 1; }
    done
    ;;
esac
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
    program("path/compute-sanitizer", kSanitizer);
    program("path/mpirun", kMpirun);
    program("path/python3", kPython);
    program("packages/nvidia/cu13/lib/libcublasLt.so.13", "");
    fs::create_directories(folder_ / "bundle/tools");
    fs::copy_file(BERT_GPU_CHECK, folder_ / "bundle/tools/gpu_check.sh");
    write_text(folder_ / "bundle/COMMIT", "abc\n");
    run("BROKEN_PRECISION=none " + path("bundle/bin/train") + " run_dir=" + path("cpu"));
    fs::create_directories(folder_ / "bundle/check");
    fs::rename(folder_ / "cpu/metrics.jsonl", folder_ / "bundle/check/cpu_metrics.jsonl");
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // `settings`: variables of the environment for the stand-ins.
  Answer check(const std::string& settings = "", const std::string& options = "") {
    const Answer answer =
        run(fmt::format("BROKEN_PRECISION=none PATH={}:$PATH {} {} --out {}", path("path"),
                        settings, path("bundle/tools/gpu_check.sh"), path("out") + options));
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
  for (const char* const name : {"intrinsics",    "ops",
                                 "optimizer",     "loss_sums",
                                 "model",         "train_fp32",
                                 "losses_fp32",   "losses_tf32",
                                 "losses_bf16",   "losses_fp8",
                                 "evaluate",      "evaluate_agrees",
                                 "train_graph",   "graph_changes_nothing",
                                 "bench_step",    "bench_natural",
                                 "bench_kernels", "memcheck",
                                 "racecheck",     "synccheck",
                                 "initcheck"}) {
    EXPECT_EQ(result(name).at("result"), "passed") << name;
    EXPECT_NE(markdown_.find(fmt::format("| {} | passed |", name)), std::string::npos) << name;
  }
  EXPECT_EQ(result("ranks").at("result"), "skipped");
  EXPECT_EQ(result("real_text").at("result"), "skipped");
  EXPECT_EQ(result("real_speed").at("result"), "skipped");
  EXPECT_EQ(result("compare_pytorch").at("result"), "skipped");
  EXPECT_NE(markdown_.find("## bench_kernels"), std::string::npos) << markdown_;
}

TEST_F(GpuCheck, DoesThePartsThatAreAskedFor) {
  EXPECT_EQ(check("PYTORCH=1", " --only racecheck,pytorch --rows 'bert_large:512'").exit_code, 0);
  std::vector<std::string> done;
  for (const json& part : report_.at("checks")) done.push_back(part.at("name"));
  EXPECT_EQ(done, (std::vector<std::string>{"racecheck", "compare_pytorch"})) << markdown_;
  EXPECT_EQ(result("compare_pytorch").at("note"), "1 of 1 rows");

  EXPECT_EQ(check("", " --only sanitizer").exit_code, 0);
  EXPECT_EQ(result("memcheck").at("result"), "passed");
  EXPECT_EQ(markdown_.find("| racecheck |"), std::string::npos) << markdown_;

  const Answer unknown = run(path("bundle/tools/gpu_check.sh") + " --only speed,sped");
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_NE(unknown.output.find("--only sped: expected some of tests training"), std::string::npos)
      << unknown.output;
}

TEST_F(GpuCheck, AnyFailingPartFailsTheWhole) {
  EXPECT_EQ(check("BROKEN=optimizer_test").exit_code, 1);
  EXPECT_EQ(report_.at("passed"), false);
  EXPECT_EQ(result("optimizer").at("result"), "failed");
  EXPECT_EQ(result("optimizer").at("note"), "[  FAILED  ] Ops.layer_norm_cuda_bf16, x  y (3 ms)");
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

TEST_F(GpuCheck, GraphsMustChangeNothing) {
  EXPECT_EQ(check("GRAPHS_CHANGE=1", " --only training").exit_code, 1);
  EXPECT_EQ(result("graph_changes_nothing").at("result"), "failed");
  EXPECT_EQ(result("losses_bf16").at("result"), "passed");
}

// The stand-in's rates are 1,000 tokens/s times the step.
TEST_F(GpuCheck, TellsRatesOnRealText) {
  fs::create_directories(folder_ / "bundle/check/real/corpus");
  EXPECT_EQ(check("", " --only real_speed").exit_code, 0);
  EXPECT_EQ(report_.at("checks").size(), 4u);
  for (const char* const name : {"speed_batch_graph_true", "speed_share_graph_false"}) {
    EXPECT_EQ(result(name).at("result"), "passed");
    EXPECT_EQ(result(name).at("note"), "80000 tokens/s in steps 41 to 120, 145000 in 131 to 160");
  }
}

TEST_F(GpuCheck, LeavesAFewFiles) {
  check();
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder_ / "out")) {
    files.push_back(entry.path().filename());
  }
  std::sort(files.begin(), files.end());
  EXPECT_EQ(files,
            (std::vector<std::string>{"gpu_check.json", "gpu_check.md", "gpu_check_logs.tar.gz"}));
  const std::string logs = run("tar -tzf " + path("out/gpu_check_logs.tar.gz")).output;
  EXPECT_NE(logs.find("gpu_check_logs/ops.log"), std::string::npos) << logs;
}

TEST_F(GpuCheck, FindsLibrariesThatPythonHas) {
  check();
  const std::string libraries = read_file(folder_ / "bundle/bin/libraries");
  EXPECT_NE(libraries.find("/packages/nvidia/cu13/lib"), std::string::npos) << libraries;
}

// Every part writes to the one log; one of them without tests is as it should be, all are not.
TEST_F(GpuCheck, DealsTestsOutToProcessors) {
  const int parts = std::min(10, std::stoi(run("nproc").output));
  EXPECT_EQ(check().exit_code, 0);
  EXPECT_EQ(result("ops").at("note"), fmt::format("{} tests", parts));
  const std::string log =
      run("tar -xzOf " + path("out/gpu_check_logs.tar.gz") + " gpu_check_logs/ops.log").output;
  for (int i = 0; i < parts; ++i) {
    EXPECT_NE(log.find(fmt::format("part {} of {}", i, parts)), std::string::npos) << log;
  }

  EXPECT_EQ(check("IDLE_PARTS=1").exit_code, 0);
  EXPECT_EQ(result("ops").at("note"), "1 tests");

  EXPECT_EQ(check("IDLE=optimizer_test").exit_code, 1);
  EXPECT_EQ(result("optimizer").at("result"), "failed");
  EXPECT_EQ(result("optimizer").at("note"), "error: no test ran on CUDA");
}

TEST_F(GpuCheck, ASanitizersFindFails) {
  EXPECT_EQ(check("BROKEN_TOOL=racecheck").exit_code, 1);
  EXPECT_EQ(result("racecheck").at("result"), "failed");
  EXPECT_NE(result("racecheck").at("note").get<std::string>().find("3 errors"), std::string::npos);
  EXPECT_EQ(result("memcheck").at("result"), "passed");
}

TEST_F(GpuCheck, ComparesPrecisionsOnRealText) {
  fs::create_directories(folder_ / "bundle/check/real/corpus");
  EXPECT_EQ(check().exit_code, 0);
  EXPECT_EQ(result("real_fp8").at("note"), "validation loss 4.125");
  EXPECT_EQ(result("real_losses_bf16").at("result"), "passed");
  EXPECT_EQ(report_.at("loss_differences").at("real_bf16"), "0.0000");
  // Losses fall from 4.3995 by 0.001 a step.
  EXPECT_NE(markdown_.find("| bf16 | 4.3500 | 4.1500 | 0.0000 | 0.0000 | 0 | 4.125 |"),
            std::string::npos)
      << markdown_;
  const std::string csv = read_file(folder_ / "out/gpu_check_losses.csv");
  EXPECT_TRUE(csv.starts_with("step,fp32,tf32,bf16,fp8\n50,4.3750,4.3750,4.3750,4.3750\n")) << csv;
  EXPECT_TRUE(csv.ends_with("\n300,4.1250,4.1250,4.1250,4.1250\n")) << csv;

  EXPECT_EQ(check("BROKEN_PRECISION=fp8").exit_code, 1);
  EXPECT_EQ(result("real_losses_fp8").at("result"), "failed");
  EXPECT_NE(markdown_.find("| fp8 | 5.3500 | 5.1500 | 1.0000 | 1.0000 | 100 | 5.125 |"),
            std::string::npos)
      << markdown_;
  EXPECT_EQ(result("real_losses_tf32").at("result"), "passed");
}

TEST_F(GpuCheck, ComparesWithPyTorchWhereThereIsOne) {
  EXPECT_EQ(check("PYTORCH=1").exit_code, 0);
  EXPECT_EQ(result("compare_pytorch").at("result"), "passed");
  EXPECT_EQ(result("compare_pytorch").at("note"), "4 of 4 rows");
  EXPECT_NE(markdown_.find("| bert_large:512 |"), std::string::npos) << markdown_;

  // What PyTorch cannot do is told, and no failure.
  EXPECT_EQ(check("PYTORCH=broken").exit_code, 0);
  EXPECT_EQ(result("compare_pytorch").at("result"), "noted");
  EXPECT_EQ(result("compare_pytorch").at("note"), "1 of 4 rows; KeyError: sdpa");

  EXPECT_EQ(check("PYTORCH=slow", " --seconds 15").exit_code, 0);
  EXPECT_EQ(result("compare_pytorch").at("note"),
            "1 of 4 rows in the time left; --seconds gives it more");
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

TEST_F(GpuCheck, TrainsOnTwoGpusThatCudaSees) {
  for (const char* both : {"GPUS=2", "CUDA_VISIBLE_DEVICES=4,7"}) {
    EXPECT_EQ(check(both).exit_code, 0) << both;
    for (const char* run : {"ranks", "ranks_bf16", "ranks_reproducible"}) {
      EXPECT_EQ(result(fmt::format("losses_{}", run)).at("result"), "passed") << both << run;
    }
  }
  EXPECT_EQ(check("GPUS=2 CUDA_VISIBLE_DEVICES=1").exit_code, 0);
  EXPECT_EQ(result("ranks").at("result"), "skipped");
}

TEST_F(GpuCheck, RefusesWhatIsNoBundle) {
  fs::remove(folder_ / "bundle/bin/bert_cuda_backend.so");
  const Answer answer = run(path("bundle/tools/gpu_check.sh"));
  EXPECT_EQ(answer.exit_code, 2);
  EXPECT_NE(answer.output.find("is no bundle"), std::string::npos) << answer.output;
  EXPECT_EQ(run(path("bundle/tools/gpu_check.sh") + " --quick").exit_code, 2);
}

// Whatever hangs: what there is no time for is skipped.
TEST_F(GpuCheck, EndsInTime) {
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(check("HANGING=op_backends_test", " --seconds 10").exit_code, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(25));
  EXPECT_EQ(result("ops").at("note"), "ran past its time");
  EXPECT_EQ(result("bench_kernels").at("result"), "skipped");
  EXPECT_EQ(result("bench_kernels").at("note"), "no time left");

  const std::string script = read_file(BERT_GPU_CHECK);
  const auto at = script.find("\ndeadline=");
  ASSERT_NE(at, std::string::npos);
  EXPECT_LT(std::stoi(script.substr(at + 10)), 4 * 60);
  EXPECT_EQ(run(path("bundle/tools/gpu_check.sh") + " --seconds soon").exit_code, 2);
}

}  // namespace
}  // namespace bert
