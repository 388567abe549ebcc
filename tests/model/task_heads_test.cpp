// Models with the heads of tasks on every backend: against the f64 reference, with frozen layers,
// and the dropout before the head.
#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include <gtest/gtest.h>

#include "tests/model/model_fixture.h"

namespace bert::test {
namespace {

struct Param {
  LayerNormPlacement layer_norm;
  TaskCase task;
  BackendEntry backend;
};

constexpr DropoutKey kKey{43, 1001};
const std::vector<std::int64_t> kLengths = {21, 1, 33, 7, 14, 40, 30, 26};

class TaskModel : public ::testing::TestWithParam<Param> {
 protected:
  static BertConfig config() {
    BertConfig c;
    c.vocab_size = 203;
    c.hidden_size = 64;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 1;
    c.intermediate_size = 160;
    c.max_position_embeddings = 64;
    c.initializer_range = 0.05;  // attention that is not nearly uniform
    c.classifier_dropout = 0.3;
    c.layer_norm = GetParam().layer_norm;
    return c;
  }
  static HostBatch batch() {
    return random_task_batch("heads", config(), GetParam().task, kLengths);
  }
  static std::unique_ptr<ModelRun> make_run(const BertConfig& config,
                                            const std::function<Backend()>& make_backend,
                                            bool recompute = false) {
    auto run = std::make_unique<ModelRun>(make_task_model(config, GetParam().task), make_backend,
                                          batch().exact_capacity(), recompute);
    run->initialize(12);
    return run;
  }
  static std::unique_ptr<ModelRun> make_run(bool recompute = false) {
    return make_run(config(), GetParam().backend.make, recompute);
  }
};

// As in model_backends_test.cpp, and for the same reasons.
double bound_of(const BackendEntry& backend) {
  return backend.make().ops->dtype() == DType::bf16 ? 8.0 * 0x1p-8 : 1e-5;
}

TEST_P(TaskModel, AgreesWithTheReference) {
  const ModelResults expected = make_run(config(), reference_backend)->step({batch()}, kKey),
                     results = make_run()->step({batch()}, kKey);
  const double bound = bound_of(GetParam().backend);
  EXPECT_NEAR(results.loss, expected.loss, bound * expected.loss);
  EXPECT_GT(results.main.count, 0);
  EXPECT_EQ(results.main.count, expected.main.count);
  EXPECT_LE(relative_error(results.logits, expected.logits), bound);
  // The gradients of an answer's logits add up to zero over a sequence. So nearly do those of what
  // is added to all of its tokens, and of such a sum bf16 keeps too little for a bound of its own
  // size.
  if (bound > 1e-3 && GetParam().task.kind == TaskKind::question_answering) return;
  for (const auto& [name, error] : gradient_errors(results.gradients, expected.gradients)) {
    EXPECT_LE(error, bound) << name;
  }
}

// The trained part to the bit, whether the rest is computed or not; the frozen part as it was.
TEST_P(TaskModel, FreezesLayers) {
  const ModelResults all = make_run()->step({batch()}, kKey);
  for (const bool recompute : {false, true}) {
    for (std::int64_t layers = 0; layers <= config().num_hidden_layers; ++layers) {
      const std::unique_ptr<ModelRun> run = make_run(recompute);
      BertModel& model = run->model();
      model.freeze(layers);
      std::map<std::string, std::vector<double>> expected = all.gradients;
      std::size_t frozen = 0;
      for (const Parameter& parameter : model.parameters().parameters()) {
        std::vector<double> values(static_cast<std::size_t>(parameter.numel()), 0.0);
        if (parameter.offset < model.first_trained()) {
          for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = static_cast<double>(i % 7) - 2;
          split_by_name(parameter, values, expected);
          ++frozen;
        }
        model.parameters().write(parameter.gradient, values);
      }
      std::vector<std::pair<std::int64_t, std::int64_t>> told;
      const ModelResults results =
          run->accumulate({batch()}, kKey, [&](std::int64_t first, std::int64_t last) {
            told.push_back({first, last});
          });
      EXPECT_EQ(results.loss, all.loss);
      for (const auto& [name, gradient] : expected) {
        EXPECT_EQ(results.gradients.at(name), gradient)
            << name << ", " << layers << " layers frozen, recompute " << recompute;
      }
      EXPECT_GT(frozen, 0U);
      EXPECT_LT(frozen, model.parameters().parameters().size());
      // From the end of the buffer to what is trained first, without a gap.
      std::int64_t end = model.parameters().flat_size();
      for (const auto& [first, last] : told) {
        EXPECT_EQ(last, end);
        end = first;
      }
      EXPECT_EQ(end, model.first_trained());
    }
  }
}

// What the frozen parts are, by name: the embeddings and the lowest layers; in pre-LN with the
// LayerNorm that closes the last of them.
TEST(FrozenLayers, AreThePrefixOfTheModel) {
  for (const auto layer_norm : {LayerNormPlacement::post, LayerNormPlacement::pre}) {
    BertConfig config;
    config.num_hidden_layers = 3;
    config.layer_norm = layer_norm;
    for (const TaskCase& task : kTaskCases) {
      const std::unique_ptr<BertModel> model = make_task_model(config, task);
      EXPECT_EQ(model->first_trained(), 0);
      for (std::int64_t layers = 0; layers <= 3; ++layers) {
        model->freeze(layers);
        std::int64_t trained = model->parameters().flat_size();
        for (const Parameter& parameter : model->parameters().parameters()) {
          const std::string& name = parameter.name();
          bool frozen = name.starts_with("bert.embeddings.");
          for (std::int64_t layer = 0; layer <= layers; ++layer) {
            const std::string prefix = "bert.encoder.layer." + std::to_string(layer) + ".";
            if (name.starts_with(prefix)) {
              frozen |= layer < layers || name.starts_with(prefix + "attention.ln.");
            }
          }
          frozen |= layers == 3 && name.starts_with("bert.encoder.ln.");
          EXPECT_EQ(parameter.offset < model->first_trained(), frozen)
              << name << " with " << layers << " layers frozen";
          if (!frozen) trained = std::min(trained, parameter.offset);
        }
        EXPECT_EQ(model->first_trained(), trained);
      }
    }
  }
}

// A row that the head reads: of which sequence, at which position, and what it holds.
struct HeadRow {
  std::uint32_t sequence_index;
  std::int64_t position;
  std::vector<double> x;  // [C]
};

std::vector<HeadRow> head_rows(const HostBatch& batch, const ModelResults& results, bool words) {
  const std::vector<double>& source = words ? results.hidden_states.back() : results.pooled;
  const std::int64_t rows = words ? batch.num_masked() : batch.num_sequences(),
                     channels =
                         std::ssize(source) / (words ? batch.num_tokens() : batch.num_sequences());
  std::vector<HeadRow> result;
  std::size_t sequence = 0;
  for (std::size_t i = 0; std::cmp_less(i, rows); ++i) {
    const double token = words ? batch.masked_rows[i] : batch.cu_seqlens[i];
    while (batch.cu_seqlens[sequence + 1] <= token) ++sequence;
    const auto first = source.begin() + channels * (words ? static_cast<std::int64_t>(token)
                                                          : static_cast<std::int64_t>(i));
    result.push_back({static_cast<std::uint32_t>(batch.sequence_index[sequence]),
                      static_cast<std::int64_t>(token - batch.cu_seqlens[sequence]),
                      {first, first + channels}});
  }
  return result;
}

void drop(HeadRow& row, float probability) {
  for (std::size_t c = 0; c < row.x.size(); ++c) {
    const DropoutPlace place =
        hidden_dropout_place(row.position, static_cast<std::int64_t>(c), std::ssize(row.x));
    const PhiloxCounter bits =
        dropout_bits(kKey, kHeadDropoutSite, row.sequence_index, place.group);
    const bool kept = dropout_value(bits, place.element) >= dropout_threshold(probability);
    row.x[c] *= kept ? dropout_scale(probability) : 0.0;
  }
}

// The bits of kernels/dropout.h, at the token rows that the head reads; nothing else is dropped.
TEST_P(TaskModel, DropsWhatTheHeadReads) {
  BertConfig only = config();
  only.hidden_dropout_prob = only.attention_probs_dropout_prob = 0.0;
  const HostBatch host = batch();
  const std::unique_ptr<ModelRun> run = make_run(only, GetParam().backend.make);
  const ModelResults certain = run->step({host}, {}), dropped = run->step({host}, kKey);
  EXPECT_EQ(dropped.hidden_states, certain.hidden_states);
  if (GetParam().task.kind == TaskKind::question_answering) {
    EXPECT_EQ(dropped.logits, certain.logits);  // nothing is dropped before that head
    return;
  }
  const ParameterStore& store = run->model().parameters();
  const auto& parameters = store.parameters();  // the head's weight and bias come last
  const std::vector<double> weight = store.read(parameters[parameters.size() - 2].value),
                            bias = store.read(parameters.back().value);
  std::vector<double> expected;
  for (HeadRow row :
       head_rows(host, certain, GetParam().task.kind == TaskKind::token_classification)) {
    drop(row, static_cast<float>(*only.classifier_dropout));
    for (std::size_t output = 0; output < bias.size(); ++output) {
      expected.push_back(std::inner_product(
          row.x.begin(), row.x.end(),
          weight.begin() + static_cast<std::int64_t>(output) * std::ssize(row.x), bias[output]));
    }
  }
  EXPECT_LE(relative_error(dropped.logits, expected), bound_of(GetParam().backend));
  EXPECT_GT(relative_error(dropped.logits, certain.logits), 0.1);
}

std::vector<Param> all_params() {
  std::vector<Param> params;
  for (const auto layer_norm : {LayerNormPlacement::post, LayerNormPlacement::pre}) {
    for (const TaskCase& task : kTaskCases) {
      for (const BackendEntry& backend : available_backends()) {
        if (backend.fp8) continue;  // of layers, not of heads
        params.push_back({layer_norm, task, backend});
      }
    }
  }
  return params;
}

INSTANTIATE_TEST_SUITE_P(All, TaskModel, ::testing::ValuesIn(all_params()),
                         [](const auto& param_info) {
                           return param_info.param.task.name() + "_" +
                                  std::string(layer_norm_name(param_info.param.layer_norm)) +
                                  "_on_" + param_info.param.backend.name;
                         });

}  // namespace
}  // namespace bert::test
