// runtime.profile: the table says what the steps did and how long they took, and changes no bit of
// the run. Its work per op is checked against sums made by hand.
#include "train/profile/step_profile.h"

#include <array>
#include <cmath>
#include <map>
#include <sstream>

#include "runtime/file.h"
#include "tests/train/training_fixture.h"
#include "train/profile/op_work.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// The table at the end of what a program said.
struct Table {
  struct Op {
    double calls = 0.0, ms = 0.0, share = 0.0, gflops = 0.0, gbytes = 0.0, of_ceiling = 0.0;
  };
  std::string heading;
  std::map<std::string, Op> ops;
  double all_ops = -1.0, outside = -1.0, step = -1.0;  // ms

  explicit Table(const std::string& output) {
    const std::size_t begin = output.find("profile of ");
    if (begin == std::string::npos) return;
    std::istringstream lines(output.substr(begin));
    std::getline(lines, heading);
    std::string line;
    std::getline(lines, line);  // the columns' names
    while (step < 0.0 && std::getline(lines, line)) add(line);
  }

  double sum_of_ops() const {
    double sum = 0.0;
    for (const auto& [name, op] : ops) sum += op.ms;
    return sum;
  }

 private:
  void add(const std::string& line) {
    std::istringstream words(line);
    const auto last_number = [&] { return std::stod(line.substr(line.rfind(' '))); };
    if (line.starts_with("all ops ")) {
      all_ops = last_number();
    } else if (line.starts_with("outside the ops ")) {
      outside = last_number();
    } else if (line.starts_with("a step ")) {
      step = last_number();
    } else {
      std::string name, percent, gflops, gbytes;
      Op op;
      words >> name >> op.calls >> op.ms >> op.share >> percent >> gflops >> gbytes >>
          op.of_ceiling;
      if (!words || percent != "%") return;
      if (gflops != "-") op.gflops = std::stod(gflops);
      if (gbytes != "-") op.gbytes = std::stod(gbytes);
      ops[name] = op;
    }
  }
};

// That `per_second` (in 1e9, printed with an error of at most `rounding`) for as long as the op
// takes in a step is `expected`.
void expect_work(const Table::Op& op, double per_second, double rounding, double expected) {
  EXPECT_GE((per_second + rounding) * (op.ms + 0.00051) * 1e6, expected);
  EXPECT_LE((per_second - rounding) * (op.ms - 0.00051) * 1e6, expected);
}

using StepProfileTest = TrainingTest;

TEST_F(StepProfileTest, TellsWhatTheStepsDidAndChangesNothing) {
  const Arguments arguments{"train.max_steps=7", "schedule.warmup_steps=2",
                            "train.micro_batch_tokens=1000", "evaluation.every_steps=3",
                            "checkpoint.every_steps=0"};
  Arguments profiled = arguments;
  const fs::path dump = folder_ / "batches";
  profiled.insert(profiled.end(), {"runtime.profile=true", "--dump-batches", dump.string()});
  ASSERT_EQ(train(folder_ / "plain", arguments).exit_code, 0);
  const Answer answer = train(folder_ / "run", profiled);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;

  // Not a bit is another.
  EXPECT_EQ(comparable_metrics(folder_ / "run"), comparable_metrics(folder_ / "plain"));
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    EXPECT_EQ(read_file(checkpoint_of(folder_ / "run", 7) / file),
              read_file(checkpoint_of(folder_ / "plain", 7) / file));
  }

  const Table table(answer.output);
  EXPECT_TRUE(table.heading.starts_with("profile of 6 steps, without the first;")) << answer.output;
  // The file that stays has it too.
  EXPECT_EQ(Table(read_file(folder_ / "run" / "log.txt")).ops.size(), table.ops.size());
  for (const char* name : {"embeddings_forward", "linear_forward", "linear_backward",
                           "attention_forward", "attention_backward", "cross_entropy",
                           "bias_dropout_residual_layer_norm_forward", "gradient_norm", "adamw"}) {
    ASSERT_TRUE(table.ops.contains(name)) << name << " is missing of\n" << answer.output;
  }

  // The rows add up.
  const double rounding = 0.0005 * static_cast<double>(table.ops.size() + 2);
  EXPECT_NEAR(table.sum_of_ops(), table.all_ops, rounding);
  EXPECT_NEAR(table.sum_of_ops() + table.outside, table.step, rounding);
  EXPECT_GT(table.outside, 0.0);
  double shares = 0.0;
  for (const auto& [name, op] : table.ops) {
    shares += op.share;
    EXPECT_GE(op.of_ceiling, 0.0) << name;
  }
  EXPECT_NEAR(shares, 100.0, 0.05 * static_cast<double>(table.ops.size()));

  // The steps took what metrics.jsonl says they took, and did what their batches are.
  constexpr double kSteps = 6.0, kHidden = 32, kWide = 64, kLayers = 2, kLogits = 200;
  std::map<std::int64_t, double> tokens_of;
  double tokens = 0.0, masked = 0.0, squares = 0.0, micro_batches = 0.0;
  for (const json& batch : read_lines(dump)) {
    const std::vector<std::int64_t> starts = batch.at("cu_seqlens");
    tokens_of[batch.at("step")] += static_cast<double>(starts.back());
    if (batch.at("step") == 0) continue;
    ++micro_batches;
    tokens += static_cast<double>(starts.back());
    masked += static_cast<double>(batch.at("masked_rows").size());
    for (std::size_t b = 1; b < starts.size(); ++b) {
      squares += std::pow(static_cast<double>(starts[b] - starts[b - 1]), 2);
    }
  }
  double seconds = 0.0;
  for (const json& record : read_metrics(folder_ / "run")) {
    const std::int64_t step = record.at("step");
    if (!record.contains("loss") || step == 1) continue;
    seconds += tokens_of.at(step - 1) / record.at("tokens_per_second").get<double>();
  }
  EXPECT_NEAR(table.step, 1e3 * seconds / kSteps, 1e-3 * table.step);

  // Evaluations belong to no step.
  EXPECT_GT(micro_batches, kSteps);
  EXPECT_NEAR(table.ops.at("embeddings_forward").calls, micro_batches / kSteps, 0.051);
  EXPECT_NEAR(table.ops.at("attention_forward").calls, kLayers * micro_batches / kSteps, 0.051);
  EXPECT_EQ(table.ops.at("adamw").calls, 1.0);

  const double layer = 3 * kHidden * kHidden + kHidden * kHidden + 2 * kHidden * kWide;
  const double head = kHidden * kHidden + kHidden * kLogits;
  const double linear = 2.0 * (tokens * kLayers * layer + masked * head) / kSteps;
  const Table::Op &forward = table.ops.at("linear_forward"),
                  &backward = table.ops.at("linear_backward"),
                  &attention = table.ops.at("attention_forward"),
                  &entropy = table.ops.at("cross_entropy");
  expect_work(forward, forward.gflops, 0.051, linear);
  expect_work(backward, backward.gflops, 0.051, 2.0 * linear);
  expect_work(attention, attention.gflops, 0.051, 4.0 * squares * kHidden * kLayers / kSteps);
  expect_work(entropy, entropy.gbytes, 0.0051,
              2.0 * 4.0 * masked * TrainingWorld::kVocabulary / kSteps);
  EXPECT_EQ(forward.gbytes, 0.0);
  EXPECT_EQ(entropy.gflops, 0.0);

  // What the heading says is what the last column is a part of.
  double product = 0.0, copy = 0.0;
  ASSERT_EQ(std::sscanf(table.heading.c_str(),
                        "profile of 6 steps, without the first; a large product ran at %lf "
                        "GFLOP/s, a copy at %lf GB/s",
                        &product, &copy),
            2)
      << table.heading;
  EXPECT_NEAR(backward.of_ceiling, 100.0 * backward.gflops / product,
              0.06 + 100.0 * 0.05 / product + backward.of_ceiling / product);
  EXPECT_NEAR(entropy.of_ceiling, 100.0 * entropy.gbytes / copy,
              0.06 + 100.0 * 0.005 / copy + 0.1 * entropy.of_ceiling / copy);
}

TEST_F(StepProfileTest, IsPrintedWhenASignalEndsTheRun) {
  const fs::path run_dir = folder_ / "run";
  const Answer answer =
      run(fmt::format("{1} & pid=$!; while kill -0 $pid 2>/dev/null && "
                      "[ $(cat {0} 2>/dev/null | wc -l) -le 5 ]; do sleep 0.01; done; "
                      "kill -TERM $pid; wait $pid",
                      (run_dir / "metrics.jsonl").string(),
                      command(run_dir, {"train.max_steps=1000000", "runtime.profile=true"})));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("stopped by SIGTERM"), std::string::npos) << answer.output;
  const Table table(answer.output);
  EXPECT_TRUE(table.ops.contains("linear_forward")) << answer.output;
  EXPECT_GT(table.step, table.all_ops);
}

TEST_F(StepProfileTest, IsOfAllRanksPrintedOnce) {
  if (!runs_under_mpirun(BERT_TRAIN)) GTEST_SKIP() << "MPI is not installed";
  const Answer answer = train_ranks(
      2, folder_ / "run", {"train.max_steps=3", "schedule.warmup_steps=0", "runtime.profile=true"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const std::size_t first = answer.output.find("profile of 2 steps");
  ASSERT_NE(first, std::string::npos) << answer.output;
  EXPECT_EQ(answer.output.find("profile of", first + 1), std::string::npos) << answer.output;
  EXPECT_EQ(Table(answer.output).ops.at("adamw").calls, 1.0);
}

// --- The parts ----------------------------------------------------------------------------------

// Of its capacity of five rows three count.
TEST(OpWork, OfProductsIsOfTheRowsThatCount) {
  std::vector<float> memory(64);
  const auto tensor = [&](std::initializer_list<std::int64_t> shape) {
    return Tensor(memory.data(), DType::f32, shape);
  };
  const std::int32_t rows = 3;
  const LinearWeight weight{tensor({2, 4}), tensor({2, 4})};
  const LinearForward forward{
      .x = tensor({5, 4}), .weight = weight, .rows = &rows, .y = tensor({5, 2})};
  EXPECT_EQ(work_of(forward, true).flop, 2.0 * 3 * 4 * 2);
  EXPECT_EQ(work_of(forward, false).flop, 2.0 * 5 * 4 * 2);
  LinearBackward backward{.dy = tensor({5, 2}),
                          .x = tensor({5, 4}),
                          .weight = weight,
                          .rows = &rows,
                          .dx = tensor({5, 4}),
                          .dweight = tensor({2, 4})};
  EXPECT_EQ(work_of(backward, true).flop, 4.0 * 3 * 4 * 2);
  backward.dx = {};
  EXPECT_EQ(work_of(backward, true).flop, 2.0 * 3 * 4 * 2);
  EXPECT_EQ(work_of(backward, true).bytes, 0.0);
}

TEST(OpWork, OfAttentionGoesByTheSquaresOfLengths) {
  std::vector<float> memory(128);
  const std::array<std::int32_t, 4> starts{0, 3, 8, 8};  // two sequences of at most three
  const std::int32_t sequences = 2, count = 8;
  PackedTokens tokens;
  tokens.cu_seqlens = Tensor(const_cast<std::int32_t*>(starts.data()), DType::i32, {4});
  tokens.token_sequence = Tensor(memory.data(), DType::i32, {10});
  tokens.num_sequences = &sequences;
  tokens.num_tokens = &count;
  tokens.max_seqlen = 6;
  const AttentionForward forward{.tokens = tokens, .y = Tensor(memory.data(), DType::f32, {10, 4})};
  EXPECT_EQ(work_of(forward, true).flop, 4.0 * (9 + 25) * 4);
  EXPECT_EQ(work_of(forward, false).flop, 4.0 * 10 * 6 * 4);
  const AttentionBackward backward{.y = forward.y, .tokens = tokens};
  EXPECT_EQ(work_of(backward, true).flop, 10.0 * (9 + 25) * 4);
}

TEST(OpWork, OfTheOptimizerIsEveryByteOnce) {
  std::vector<float> memory(64);
  const Tensor flat(memory.data(), DType::f32, {64});
  AdamW adamw{.parameters = flat, .gradients = flat, .m = flat, .v = flat};
  EXPECT_EQ(work_of(adamw, true).bytes, 28.0 * 64);
  adamw.compute = Tensor(memory.data(), DType::bf16, {64});
  EXPECT_EQ(work_of(adamw, true).bytes, 30.0 * 64);
  EXPECT_EQ(work_of(ComputeGradientNorm{.gradients = flat}, true).bytes, 4.0 * 64);
}

}  // namespace
}  // namespace bert
