// The micro-batches of a task's sequences: which sequences a step has, on which rank, what of
// theirs lies where; and what a model says of them, however they are packed.
#include "train/inference/task_batches.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/tensor_copy.h"
#include "train/inference/task_inference.h"
#include "train/step/backend.h"

namespace bert {
namespace {

constexpr std::int32_t kVocabulary = 400;
const std::vector<double> kClassWeights = {0.3, 1.7, 2.5};

// Sequence i of several lengths begins with token i; everything else of it differs from the others'
// too. Some labels are unknown, and some sequences have no words.
std::vector<TaskSequence> make_sequences(std::int32_t count) {
  std::vector<TaskSequence> sequences;
  for (std::int32_t i = 0; i < count; ++i) {
    TaskSequence s;
    s.example = i;
    const std::int32_t length = 1 + i * 5 % 7;
    for (std::int32_t position = 0; position < length; ++position) {
      s.input_ids.push_back(position == 0 ? i : (i * 31 + position * 17) % kVocabulary);
      s.token_type_ids.push_back((i + position) % 2);
      if (position == 0 || position % 2 == i % 2) continue;
      s.rows.push_back(position);
      s.row_labels.push_back(position % 5 == 4 ? kIgnoreIndex : (i + position) % 3);
    }
    s.label = i % 5 == 3 ? kIgnoreIndex : i % 3;
    s.value = 0.1f * static_cast<float>(i) - 1.0f;
    s.end = i % length;
    s.start = s.end / 2;
    sequences.push_back(s);
  }
  return sequences;
}

auto fields(const TaskSequence& s) {
  return std::tie(s.input_ids, s.token_type_ids, s.label, s.value, s.rows, s.row_labels, s.start,
                  s.end);
}
auto fields(const Batch& b) {
  return std::tie(b.input_ids, b.position_ids, b.token_type_ids, b.cu_seqlens, b.sequence_index,
                  b.masked_rows, b.masked_targets, b.sequence_labels, b.sequence_values,
                  b.answer_spans, b.loss_weights);
}
void expect_same(const std::vector<Batch>& batches, const std::vector<Batch>& expected) {
  ASSERT_EQ(batches.size(), expected.size());
  for (std::size_t i = 0; i < batches.size(); ++i) {
    EXPECT_EQ(fields(batches[i]), fields(expected[i])) << i;
  }
}

// What `kind` takes of a sequence, the rest as it is in a new one.
TaskSequence seen_by(TaskKind kind, const TaskSequence& sequence) {
  TaskSequence seen;
  seen.input_ids = sequence.input_ids;
  seen.token_type_ids = sequence.token_type_ids;
  if (kind == TaskKind::classification) seen.label = sequence.label;
  if (kind == TaskKind::regression) seen.value = sequence.value;
  if (kind == TaskKind::token_classification) {
    seen.rows = sequence.rows;
    seen.row_labels = sequence.row_labels;
  }
  if (kind == TaskKind::question_answering) {
    seen.start = sequence.start;
    seen.end = sequence.end;
  }
  return seen;
}

// The sequences that a batch was made of; whatever it holds belongs to one of them.
std::vector<TaskSequence> unpack(const Batch& batch) {
  std::vector<TaskSequence> sequences;
  std::size_t word = 0;
  for (std::size_t b = 0; b + 1 < batch.cu_seqlens.size(); ++b) {
    TaskSequence s;
    const std::int32_t begin = batch.cu_seqlens[b], end = batch.cu_seqlens[b + 1];
    s.input_ids.assign(batch.input_ids.begin() + begin, batch.input_ids.begin() + end);
    s.token_type_ids.assign(batch.token_type_ids.begin() + begin,
                            batch.token_type_ids.begin() + end);
    for (std::int32_t row = begin; row < end; ++row) {
      EXPECT_EQ(batch.position_ids.at(static_cast<std::size_t>(row)), row - begin);
    }
    if (!batch.sequence_labels.empty()) s.label = batch.sequence_labels.at(b);
    if (!batch.sequence_values.empty()) s.value = static_cast<float>(batch.sequence_values.at(b));
    if (!batch.answer_spans.empty()) {
      s.start = batch.answer_spans.at(2 * b);
      s.end = batch.answer_spans.at(2 * b + 1);
    }
    for (; word < batch.masked_rows.size() && batch.masked_rows[word] < end; ++word) {
      s.rows.push_back(batch.masked_rows[word] - begin);
      s.row_labels.push_back(batch.masked_targets.at(word));
    }
    sequences.push_back(s);
  }
  EXPECT_EQ(word, batch.masked_rows.size());
  return sequences;
}

std::vector<TaskSequence> unpack(const std::vector<Batch>& batches) {
  std::vector<TaskSequence> sequences;
  for (const Batch& batch : batches) {
    for (TaskSequence& s : unpack(batch)) sequences.push_back(std::move(s));
  }
  return sequences;
}

// By their first tokens.
std::vector<std::int32_t> numbers(const std::vector<Batch>& batches) {
  std::vector<std::int32_t> numbers;
  for (const TaskSequence& s : unpack(batches)) numbers.push_back(s.input_ids.front());
  return numbers;
}

TaskBatchOptions options(std::int64_t batch_size) {
  return {
      .batch_size = batch_size, .limits = {.tokens = 12, .sequences = 4, .masked = 5}, .seed = 5};
}
TaskBatchOptions of_rank(TaskBatchOptions options, int rank, int world_size) {
  options.rank = rank;
  options.world_size = world_size;
  return options;
}

const std::vector<TaskKind> kKinds = {TaskKind::classification, TaskKind::regression,
                                      TaskKind::token_classification, TaskKind::question_answering};

// --- Which sequences a step has ---------------------------------------------------------------
TEST(TaskBatches, EveryEpochIsAllSequencesInAnotherOrder) {
  const auto sequences = make_sequences(23);
  const TaskBatches batches(sequences, TaskKind::regression, options(6));  // epochs cross steps
  std::vector<std::int32_t> order;
  for (std::uint64_t step = 0; order.size() < 6 * sequences.size(); ++step) {
    const StepBatches made = batches.step(step);
    EXPECT_EQ(made.step, step);
    EXPECT_EQ(made.first_element, 6 * step);
    EXPECT_EQ(made.global_sequences, 6);
    EXPECT_EQ(made.sequences, 6);
    const auto of_step = numbers(made.micro_batches);
    order.insert(order.end(), of_step.begin(), of_step.end());
  }
  std::vector<std::int32_t> all(sequences.size());
  std::iota(all.begin(), all.end(), 0);
  std::set<std::vector<std::int32_t>> orders = {all};
  for (std::size_t epoch = 0; epoch < 6; ++epoch) {
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(epoch * all.size());
    std::vector<std::int32_t> of_epoch(first, first + std::ssize(all));
    EXPECT_TRUE(std::is_permutation(of_epoch.begin(), of_epoch.end(), all.begin(), all.end()));
    EXPECT_TRUE(orders.insert(of_epoch).second) << "epoch " << epoch << " is an earlier one";
  }
  TaskBatchOptions other = options(6);
  other.seed = 6;
  EXPECT_NE(numbers(TaskBatches(sequences, TaskKind::regression, other).step(0).micro_batches),
            numbers(batches.step(0).micro_batches));
}

TEST(TaskBatches, AStepIsTheSameWheneverItIsAskedFor) {
  const auto sequences = make_sequences(11);
  const TaskBatches forwards(sequences, TaskKind::token_classification, options(4));
  std::vector<StepBatches> steps;
  for (std::uint64_t step = 0; step < 9; ++step) steps.push_back(forwards.step(step));
  const auto again = make_sequences(11);
  const TaskBatches backwards(again, TaskKind::token_classification, options(4));
  for (std::uint64_t step = 9; step-- > 0;) {
    expect_same(backwards.step(step).micro_batches, steps[step].micro_batches);
  }
}

TEST(TaskBatches, CountsTheStepsOfEpochs) {
  const auto sequences = make_sequences(10);
  const auto steps = [&](std::int64_t batch_size, std::int64_t epochs) {
    return TaskBatches(sequences, TaskKind::regression, options(batch_size)).steps(epochs);
  };
  EXPECT_EQ(steps(5, 1), 2);
  EXPECT_EQ(steps(5, 3), 6);
  EXPECT_EQ(steps(4, 1), 3);
  EXPECT_EQ(steps(4, 2), 5);
  EXPECT_EQ(steps(25, 1), 1);
}

// --- Which of them a rank has -----------------------------------------------------------------
TEST(TaskBatches, RanksShareAStep) {
  const auto sequences = make_sequences(23);
  for (const std::int64_t together : {0, 2}) {
    for (const TaskKind kind : kKinds) {
      TaskBatchOptions whole = options(9);
      whole.limits = {.tokens = 14, .sequences = 4, .masked = 8};
      whole.micro_batch_sequences = together;
      whole.class_weights = kClassWeights;
      for (const std::uint64_t step : {0U, 3U}) {
        const StepBatches all = TaskBatches(sequences, kind, whole).step(step);
        for (const int world : {2, 3, 5, 9}) {
          std::vector<std::int32_t> order;
          std::vector<std::uint32_t> places;
          std::int64_t count = 0, tokens = 0, masked = 0;
          for (int rank = 0; rank < world; ++rank) {
            const StepBatches share =
                TaskBatches(sequences, kind, of_rank(whole, rank, world)).step(step);
            EXPECT_EQ(share.loss_weight, all.loss_weight);  // to the bit
            EXPECT_EQ(share.global_sequences, 9);
            EXPECT_EQ(share.first_element, all.first_element);
            for (const std::int32_t number : numbers(share.micro_batches)) order.push_back(number);
            for (const Batch& batch : share.micro_batches) {
              places.insert(places.end(), batch.sequence_index.begin(), batch.sequence_index.end());
            }
            count += share.sequences;
            tokens += share.tokens;
            masked += share.masked;
            if (together == 0) {
              EXPECT_GE(share.sequences, 9 / world);
            }
          }
          EXPECT_EQ(order, numbers(all.micro_batches)) << world << " ranks";
          std::vector<std::uint32_t> one_after_another(9);
          std::iota(one_after_another.begin(), one_after_another.end(), 0U);
          EXPECT_EQ(places, one_after_another);
          EXPECT_EQ(count, 9);
          EXPECT_EQ(tokens, all.tokens);
          EXPECT_EQ(masked, all.masked);
        }
      }
    }
  }
}

TEST(TaskBatches, MicroBatchesOfAFixedSizeAreTheSameOnAnyRanks) {
  const auto sequences = make_sequences(23);
  TaskBatchOptions whole = options(11);
  whole.limits = {.tokens = 21, .sequences = 3, .masked = 12};
  whole.micro_batch_sequences = 3;
  const std::vector<Batch> all =
      TaskBatches(sequences, TaskKind::token_classification, whole).step(4).micro_batches;
  ASSERT_EQ(all.size(), 4U);
  for (std::size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].num_sequences(), i < 3 ? 3 : 2);
  for (const int world : {2, 3, 4, 7}) {
    std::vector<Batch> of_ranks;
    for (int rank = 0; rank < world; ++rank) {
      const TaskBatches share(sequences, TaskKind::token_classification,
                              of_rank(whole, rank, world));
      for (Batch& batch : share.step(4).micro_batches) of_ranks.push_back(std::move(batch));
    }
    expect_same(of_ranks, all);
  }
}

TEST(TaskBatches, RanksShareTheSequencesInTheirOrder) {
  const auto sequences = make_sequences(13);
  std::vector<std::int32_t> all(sequences.size());
  std::iota(all.begin(), all.end(), 0);
  for (const int world : {1, 2, 5, 13}) {
    std::vector<std::int32_t> order;
    for (int rank = 0; rank < world; ++rank) {
      const TaskBatches share(sequences, TaskKind::question_answering,
                              of_rank(options(13), rank, world));
      for (const std::int32_t number : numbers(share.in_order())) order.push_back(number);
    }
    EXPECT_EQ(order, all) << world << " ranks";
  }
}

TEST(TaskBatches, ReproducibleEvaluationsHaveTheSameMicroBatchesOnAnyRanks) {
  const auto sequences = make_sequences(13);
  TaskBatchOptions whole = options(13);
  whole.limits = {1000, 1000, 1000};
  whole.micro_batch_sequences = 3;
  const std::vector<Batch> all =
      TaskBatches(sequences, TaskKind::token_classification, whole).in_order();
  ASSERT_EQ(all.size(), 5U);
  for (const int world : {2, 3, 7}) {
    std::vector<Batch> of_ranks;
    for (int rank = 0; rank < world; ++rank) {
      const TaskBatches share(sequences, TaskKind::token_classification,
                              of_rank(whole, rank, world));
      for (Batch& batch : share.in_order()) of_ranks.push_back(std::move(batch));
    }
    expect_same(of_ranks, all);
  }
}

TEST(TaskBatches, EpochsEndOnceEach) {
  const auto sequences = make_sequences(33);
  const TaskBatches batches(sequences, TaskKind::classification, options(32));
  std::int64_t ends = 0;
  for (std::int64_t step = 1; step <= batches.steps(20); ++step) {
    ends += batches.ends_epoch(step) ? 1 : 0;
  }
  EXPECT_EQ(ends, 20);
}

// --- What lies where --------------------------------------------------------------------------
TEST(TaskBatches, KeepsToItsLimitsAndFillsThem) {
  const auto sequences = make_sequences(41);
  EXPECT_EQ(longest_sequence(sequences), 7);
  const MicroBatchLimits least{.tokens = 7, .sequences = 1, .masked = 3};
  const std::int64_t any = 1000;
  for (const MicroBatchLimits limits :
       {least, MicroBatchLimits{11, any, any}, MicroBatchLimits{any, 3, any},
        MicroBatchLimits{any, any, 4}, MicroBatchLimits{16, 4, 5}}) {
    TaskBatchOptions limited = options(41);
    limited.limits = limits;
    const TaskBatches batches(sequences, TaskKind::token_classification, limited);
    for (const std::vector<Batch>& made : {batches.step(1).micro_batches, batches.in_order()}) {
      EXPECT_EQ(numbers(made).size(), sequences.size());
      for (std::size_t i = 0; i < made.size(); ++i) {
        EXPECT_LE(made[i].num_tokens(), limits.tokens);
        EXPECT_LE(made[i].num_sequences(), limits.sequences);
        EXPECT_LE(made[i].num_masked(), limits.masked);
        if (i + 1 == made.size()) break;
        const TaskSequence next = unpack(made[i + 1]).front();
        EXPECT_TRUE(made[i].num_tokens() + std::ssize(next.input_ids) > limits.tokens ||
                    made[i].num_sequences() == limits.sequences ||
                    made[i].num_masked() + std::ssize(next.rows) > limits.masked)
            << "there was room for one more in micro-batch " << i;
      }
    }
  }
}

TEST(TaskBatches, PutsWhatBelongsToASequenceWhereItIs) {
  const auto sequences = make_sequences(30);
  for (const TaskKind kind : kKinds) {
    const TaskBatches batches(sequences, kind, options(30));
    for (const std::vector<Batch>& made : {batches.step(2).micro_batches, batches.in_order()}) {
      EXPECT_GT(made.size(), 5U);
      EXPECT_LT(made.size(), 25U);
      const std::vector<TaskSequence> found = unpack(made);
      EXPECT_EQ(found.size(), sequences.size());
      for (const TaskSequence& s : found) {
        const TaskSequence expected =
            seen_by(kind, sequences[static_cast<std::size_t>(s.input_ids.front())]);
        EXPECT_EQ(fields(s), fields(expected)) << task_kind_name(kind);
      }
      for (const Batch& batch : made) EXPECT_TRUE(batch.loss_weights.empty());
    }
  }
}

TEST(TaskBatches, WeighsLabels) {
  const auto sequences = make_sequences(30);
  const auto weight_of = [](std::int32_t label) {
    return label == kIgnoreIndex ? 0.0 : kClassWeights[static_cast<std::size_t>(label)];
  };
  for (const bool weighted : {false, true}) {
    TaskBatchOptions weighing = options(7);
    if (weighted) weighing.class_weights = kClassWeights;
    for (const TaskKind kind : {TaskKind::classification, TaskKind::token_classification}) {
      const TaskBatches batches(sequences, kind, weighing);
      const StepBatches step = batches.step(1);
      double sum = 0.0;
      for (const Batch& batch : step.micro_batches) {
        const std::vector<std::int32_t>& labels =
            kind == TaskKind::classification ? batch.sequence_labels : batch.masked_targets;
        std::vector<double> weights;
        for (const std::int32_t label : labels) {
          sum += weighted ? weight_of(label) : label == kIgnoreIndex ? 0.0 : 1.0;
          if (weighted) weights.push_back(weight_of(label));
        }
        EXPECT_EQ(batch.loss_weights, weights);
      }
      EXPECT_GT(sum, 0.0);
      EXPECT_NEAR(step.loss_weight.value(), sum, 1e-12);
    }
  }
  EXPECT_EQ(TaskBatches(sequences, TaskKind::regression, options(7)).step(1).loss_weight, 7.0);
  EXPECT_EQ(TaskBatches(sequences, TaskKind::question_answering, options(7)).step(1).loss_weight,
            14.0);
}

// --- What a model says ------------------------------------------------------------------------
struct Said {
  TaskOutputs outputs;
  LossSums sums;
};

class TaskOutputsTest : public ::testing::TestWithParam<TaskKind> {
 protected:
  TaskOutputsTest() : model_(config(), GetParam(), {"a", "b", "c"}, true) {
    model_.allocate(*backend_.device, *backend_.ops, kCapacity, false);
    model_.parameters().initialize(config(), 3);
  }
  static BertConfig config() {
    BertConfig c;
    c.vocab_size = kVocabulary;
    c.hidden_size = 12;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 20;
    c.max_position_embeddings = 8;
    c.initializer_range = 0.5;
    return c;
  }
  std::vector<Batch> pack(const MicroBatchLimits& limits) const {
    TaskBatchOptions packing = options(1);
    packing.limits = limits;
    packing.class_weights = kClassWeights;
    return TaskBatches(sequences_, GetParam(), packing).in_order();
  }
  Said say(const std::vector<Batch>& batches) {
    DeviceBatch memory(*backend_.device, *backend_.ops, kCapacity, model_);
    Said said;
    Device& device = *backend_.device;
    const DeviceBuffer loss(device, sizeof(ModelLoss));
    device.fill_zero(loss.data(), loss.bytes());
    said.outputs =
        task_outputs(model_, device, memory, batches, static_cast<ModelLoss*>(loss.data()));
    ModelLoss total;
    device.copy_to_host(&total, loss.data(), sizeof total);
    said.sums = total.main;
    EXPECT_EQ(task_outputs(model_, *backend_.device, memory, batches), said.outputs);
    return said;
  }

  static constexpr Capacity kCapacity{
      .tokens = 200, .sequences = 40, .masked = 80, .max_seqlen = 8};
  const std::vector<TaskSequence> sequences_ = make_sequences(26);
  Backend backend_ = make_backend(Precision::fp64);
  BertForTask model_;
};

TEST_P(TaskOutputsTest, DoNotDependOnThePacking) {
  const std::vector<Batch> alone = pack({.tokens = 7, .sequences = 1, .masked = 10});
  ASSERT_EQ(alone.size(), sequences_.size());
  const Said expected = say(alone);
  EXPECT_GT(expected.sums.count, 0);
  // Each has outputs of its own, so that a mix-up shows.
  std::set<std::vector<float>> distinct;
  for (const std::vector<float>& outputs : expected.outputs) {
    if (!outputs.empty()) {
      EXPECT_TRUE(distinct.insert(outputs).second);
    }
  }
  for (const MicroBatchLimits limits :
       {MicroBatchLimits{15, 5, 8}, MicroBatchLimits{30, 40, 80}, MicroBatchLimits{200, 40, 80}}) {
    const Said said = say(pack(limits));
    EXPECT_EQ(said.outputs, expected.outputs);
    EXPECT_EQ(said.sums.count, expected.sums.count);
    EXPECT_EQ(said.sums.correct, expected.sums.correct);
    EXPECT_NEAR(said.sums.loss, expected.sums.loss, 1e-12 * expected.sums.loss);
  }
}

// The logits of the model: a sequence's, of each word one after the other, of all tokens where an
// answer may begin and then of all where it may end.
TEST_P(TaskOutputsTest, AreTheLogitsOfASequence) {
  const std::vector<Batch> alone = pack({.tokens = 7, .sequences = 1, .masked = 10});
  const Said said = say(alone);
  ASSERT_EQ(said.outputs.size(), sequences_.size());
  DeviceBatch memory(*backend_.device, *backend_.ops, kCapacity, model_);
  const auto n = static_cast<std::size_t>(model_.num_outputs());
  for (std::size_t i = 0; i < alone.size(); ++i) {
    model_.forward(memory.upload(alone[i]), nullptr);
    const std::vector<double> logits = copy_to_doubles(*backend_.device, model_.logits());
    const TaskSequence& sequence = sequences_[i];
    const std::size_t tokens = sequence.input_ids.size();
    std::size_t rows = 1;
    if (GetParam() == TaskKind::token_classification) rows = sequence.rows.size();
    if (GetParam() == TaskKind::question_answering) rows = tokens;
    ASSERT_EQ(said.outputs[i].size(), rows * n);
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t output = 0; output < n; ++output) {
        const std::size_t place =
            GetParam() == TaskKind::question_answering ? output * tokens + row : row * n + output;
        EXPECT_EQ(said.outputs[i][place], static_cast<float>(logits[row * n + output]));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, TaskOutputsTest, ::testing::ValuesIn(kKinds),
                         [](const auto& param_info) {
                           return std::string(task_kind_name(param_info.param));
                         });

}  // namespace
}  // namespace bert
