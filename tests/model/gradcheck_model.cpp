// Every layer's backward, and the whole model's, in reference f64 against finite differences,
// dropout on.
#include <functional>

#include <gtest/gtest.h>

#include "model/encoder_layer.h"
#include "tests/model/model_fixture.h"
#include "tests/support/grad_check.h"
#include "tests/support/random_inputs.h"

namespace bert::test {
namespace {

struct Variant {
  std::string name;
  LayerNormPlacement layer_norm;
  Activation hidden_act;
};

const std::vector<Variant> kVariants = {
    {"post_gelu", LayerNormPlacement::post, Activation::gelu},
    {"post_gelu_new", LayerNormPlacement::post, Activation::gelu_new},
    {"pre_gelu", LayerNormPlacement::pre, Activation::gelu},
    {"pre_gelu_new", LayerNormPlacement::pre, Activation::gelu_new},
};

BertConfig small_config(const Variant& variant) {
  BertConfig config;
  config.vocab_size = 23;
  config.hidden_size = 10;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 13;
  config.max_position_embeddings = 9;
  config.hidden_dropout_prob = 0.1;
  config.attention_probs_dropout_prob = 0.2;
  config.layer_norm = variant.layer_norm;
  config.hidden_act = variant.hidden_act;
  return config;
}

std::span<double> elements(const Tensor& tensor) {
  return {tensor.data<double>(), static_cast<std::size_t>(tensor.numel())};
}
std::vector<double> copy(const Tensor& tensor) {
  const std::span<double> values = elements(tensor);
  return {values.begin(), values.end()};
}
void assign(const Tensor& tensor, const std::vector<double>& values) {
  BERT_CHECK(static_cast<std::int64_t>(values.size()) == tensor.numel());
  std::copy(values.begin(), values.end(), tensor.data<double>());
}

// Large enough that every path has a gradient worth looking at; biases and LayerNorms too.
void randomize(const ParameterStore& store, double scale) {
  for (const Parameter& parameter : store.parameters()) {
    const double mean = parameter.kind == ParameterKind::layer_norm_weight ? 1.0 : 0.0;
    assign(parameter.value, random_values(parameter.name(), parameter.numel(), scale, mean));
  }
}

// What all layers need, and a loss of theirs: the sum over outputs of <upstream, output>.
class LayerRig {
 public:
  LayerRig(std::string subject, const Variant& variant)
      : config(small_config(variant)),
        subject_(std::move(subject) + "/" + variant.name),
        batch_(random_batch("layers", config, {5, 1, 8, 3}, 3)),
        capacity(batch_.exact_capacity()),
        device_batch_(*device, DType::f64, batch_, capacity),
        key_(*device, DropoutKey{77, 5}),
        context{ops.get(), key_.data(), device_batch_.input().tokens} {}

  // After the layers are made: parameters, and what `plan` takes from the arena.
  void build(const std::function<void(Arena&)>& plan) {
    store.allocate(*device, DType::f64, DType::f64, true);
    randomize(store, 0.4);
    arena_.build(*device, plan);
  }

  const ModelInput& input() const { return device_batch_.input(); }
  std::vector<std::int64_t> hidden_shape() const { return {capacity.tokens, config.hidden_size}; }
  Tensor hidden(const std::string& name) { return matrix(name, capacity.tokens, 1.0); }
  // A matrix [rows, C] of random values.
  Tensor matrix(const std::string& name, std::int64_t rows, double scale,
                std::int64_t columns = 0) {
    if (columns == 0) columns = config.hidden_size;
    matrices_.push_back(std::make_unique<DeviceTensor>(
        *device, DType::f64, std::initializer_list<std::int64_t>{rows, columns},
        random_values(subject_ + name, rows * columns, scale)));
    return matrices_.back()->tensor();
  }

  struct Input {
    std::string name;
    Tensor value, gradient;
  };
  // `forward` returns the outputs; `backward` is given upstream gradients that it may overwrite.
  // `inputs`: activations to check besides the parameters.
  void check(const std::function<std::vector<Tensor>()>& forward,
             const std::function<void(const std::vector<Tensor>&)>& backward,
             const std::vector<Input>& inputs = {}) {
    const std::vector<Tensor> outputs = forward();
    std::vector<std::vector<double>> upstream;
    std::vector<Tensor> upstream_memory;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      upstream.push_back(
          random_values(subject_ + "/upstream" + std::to_string(i), outputs[i].numel()));
      upstream_memory.push_back(matrix("", outputs[i].rows(), 1.0, outputs[i].dim(1)));
      assign(upstream_memory.back(), upstream.back());
    }
    const auto loss = [&] {
      double sum = 0.0;
      const std::vector<Tensor> now = forward();
      for (std::size_t i = 0; i < now.size(); ++i) {
        const std::span<double> y = elements(now[i]);
        for (std::size_t j = 0; j < y.size(); ++j) sum += y[j] * upstream[i][j];
      }
      return sum;
    };
    ops->zero(store.gradients());
    forward();
    backward(upstream_memory);
    struct Checked {
      std::string name;
      Tensor value;
      std::vector<double> gradient;
    };
    std::vector<Checked> all;
    for (const Input& in : inputs) all.push_back({in.name, in.value, copy(in.gradient)});
    for (const Parameter& parameter : store.parameters()) {
      all.push_back({parameter.name(), parameter.value, copy(parameter.gradient)});
    }
    GradCheck check(subject_, loss);
    for (const Checked& c : all) {
      EXPECT_GT(check.tensor(c.name, elements(c.value), c.gradient).largest, 0.0) << c.name;
    }
    EXPECT_TRUE(check.passed()) << check.failures();
  }

  const BertConfig config;
  const std::unique_ptr<Device> device = make_poisoned_device();
  const std::unique_ptr<Ops> ops = reference_backend().ops;
  ParameterStore store;

 private:
  std::string subject_;
  HostBatch batch_;

 public:
  const Capacity capacity;

 private:
  DeviceBatch device_batch_;
  DeviceStruct<DropoutKey> key_;
  Arena arena_;
  std::vector<std::unique_ptr<DeviceTensor>> matrices_;

 public:
  const Context context;
};

class Layers : public ::testing::TestWithParam<Variant> {};

TEST_P(Layers, Embeddings) {
  LayerRig rig("embeddings", GetParam());
  const Embeddings layer(rig.store, rig.config);
  Embeddings::Saved saved;
  rig.build([&](Arena& arena) { layer.plan(arena, rig.capacity, *rig.ops, saved); });
  const ModelInput& in = rig.input();
  rig.check(
      [&]() -> std::vector<Tensor> {
        return {layer.forward(rig.context, in.input_ids, in.token_type_ids, saved)};
      },
      [&](const std::vector<Tensor>& dy) {
        layer.backward(rig.context, in.input_ids, in.token_type_ids, saved, dy[0]);
      });
}

// A block takes the stream {normalized, residual} and gives one. Post-LN both are one tensor;
// pre-LN they are two, each with a gradient.
struct Block {
  std::function<Stream(const Stream&)> forward;
  std::function<void(BackwardWorkspace&)> backward;
};

void check_block(LayerRig& rig, const Block& block, BackwardWorkspace& workspace) {
  const bool pre = rig.config.pre_layer_norm();
  const Tensor normalized = rig.hidden("/normalized");
  const Stream in{normalized, pre ? rig.hidden("/residual") : normalized};
  std::vector<LayerRig::Input> inputs = {{"x", in.normalized, workspace.d_normalized}};
  if (pre) inputs.push_back({"residual", in.residual, workspace.d_residual});
  rig.check(
      [&] {
        const Stream out = block.forward(in);
        std::vector<Tensor> outputs = {out.normalized};
        if (pre) outputs.push_back(out.residual);
        return outputs;
      },
      [&](const std::vector<Tensor>& dy) {
        assign(workspace.d_normalized, copy(dy[0]));
        if (pre) assign(workspace.d_residual, copy(dy[1]));
        block.backward(workspace);
      },
      inputs);
}

// The workspace of a whole encoder, whose parameters are in a store of their own.
void plan_workspace(Arena& arena, const LayerRig& rig, BackwardWorkspace& workspace) {
  ParameterStore unused;
  Encoder(unused, rig.config).plan_backward(arena, rig.capacity, *rig.ops, workspace);
}

// A sublayer (self-attention, feed-forward) and the ResidualNorm that its output bias goes into.
template <typename Sublayer>
void check_sublayer(const std::string& subject, const Variant& variant, DropoutSite site) {
  LayerRig rig(subject, variant);
  const Sublayer sublayer(rig.store, rig.config, 1);
  const ResidualNorm norm(rig.store, rig.config, sublayer.output_bias(), "norm", site, 1);
  typename Sublayer::Saved saved;
  ResidualNorm::Saved saved_norm;
  BackwardWorkspace workspace;
  rig.build([&](Arena& arena) {
    sublayer.plan(arena, rig.capacity, *rig.ops, saved);
    norm.plan(arena, rig.capacity, *rig.ops, saved_norm);
    plan_workspace(arena, rig, workspace);
  });
  check_block(rig,
              {[&](const Stream& in) {
                 sublayer.forward(rig.context, in.normalized, saved, saved_norm.z);
                 return norm.forward(rig.context, in, saved_norm);
               },
               [&](BackwardWorkspace& w) {
                 norm.backward(rig.context, saved_norm, w, false);
                 const bool accumulate = !rig.config.pre_layer_norm();
                 if constexpr (std::is_same_v<Sublayer, SelfAttention>) {
                   sublayer.backward(rig.context, saved, w, accumulate, /*wants_dx=*/true);
                 } else {
                   sublayer.backward(rig.context, saved, w, accumulate);
                 }
               }},
              workspace);
}

TEST_P(Layers, SelfAttentionAndResidualNorm) {
  check_sublayer<SelfAttention>("self_attention", GetParam(), DropoutSite::attention_output);
}

TEST_P(Layers, FeedForwardAndResidualNorm) {
  check_sublayer<FeedForward>("feed_forward", GetParam(), DropoutSite::feed_forward);
}

TEST_P(Layers, EncoderLayer) {
  LayerRig rig("encoder_layer", GetParam());
  const EncoderLayer layer(rig.store, rig.config, 1);
  EncoderLayer::Saved saved;
  BackwardWorkspace workspace;
  rig.build([&](Arena& arena) {
    layer.plan(arena, rig.capacity, *rig.ops, saved);
    plan_workspace(arena, rig, workspace);
  });
  check_block(rig,
              {[&](const Stream& in) {
                 layer.forward(rig.context, in, saved);
                 return layer.output(saved);
               },
               [&](BackwardWorkspace& w) {
                 layer.backward(rig.context, saved, w, /*is_last=*/false, /*wants_dx=*/true);
               }},
              workspace);
}

TEST_P(Layers, Encoder) {
  LayerRig rig("encoder", GetParam());
  const Encoder encoder(rig.store, rig.config);
  Encoder::Saved saved;
  BackwardWorkspace workspace;
  rig.build([&](Arena& arena) {
    encoder.plan(arena, rig.capacity, *rig.ops, /*shared=*/false, saved);
    encoder.plan_backward(arena, rig.capacity, *rig.ops, workspace);
  });
  const Tensor x = rig.hidden("/x");
  const Tensor dx = rig.hidden("/dx");
  rig.check([&]() -> std::vector<Tensor> { return {encoder.forward(rig.context, x, saved)}; },
            [&](const std::vector<Tensor>& dy) {
              assign(workspace.d_normalized, copy(dy[0]));
              assign(dx, copy(encoder.backward(rig.context, saved, workspace)));
            },
            {{"x", x, dx}});
}

TEST_P(Layers, MlmHead) {
  LayerRig rig("mlm_head", GetParam());
  Parameter& word = rig.store.add({"word"}, {rig.config.vocab_size, rig.config.hidden_size},
                                  ParameterKind::weight, kVocabularyMultiple);
  const MlmHead head(rig.store, rig.config, word);
  MlmHead::Saved saved;
  rig.build([&](Arena& arena) { head.plan(arena, rig.capacity, *rig.ops, true, saved); });
  const ModelInput& in = rig.input();
  const Tensor hidden = rig.hidden("/hidden"), d_hidden = rig.hidden("/d_hidden");
  rig.check(
      [&]() -> std::vector<Tensor> {
        head.forward(rig.context, hidden, in.masked_rows, in.num_masked, saved);
        return {saved.logits};
      },
      [&](const std::vector<Tensor>& dy) {
        rig.ops->zero(d_hidden);
        assign(saved.logits, copy(dy[0]));
        head.backward(rig.context, in.masked_rows, in.num_masked, saved, d_hidden);
      },
      {{"hidden", hidden, d_hidden}});
}

TEST_P(Layers, PoolerAndLinearHead) {
  LayerRig rig("pooler_linear_head", GetParam());
  const Pooler pooler(rig.store, rig.config);
  const LinearHead head(rig.store, rig.config, "head", 2);
  Pooler::Saved saved_pooler;
  LinearHead::Saved saved;
  rig.build([&](Arena& arena) {
    pooler.plan(arena, rig.capacity, *rig.ops, saved_pooler);
    head.plan(arena, rig.capacity.sequences, *rig.ops, saved);
  });
  const DeviceCount rows = rig.context.tokens.num_sequences;
  const Tensor d_pooled = rig.matrix("/d_pooled", rig.capacity.sequences, 1.0);
  const Tensor hidden = rig.hidden("/hidden"), d_hidden = rig.hidden("/d_hidden");
  rig.check(
      [&]() -> std::vector<Tensor> {
        head.forward(rig.context, pooler.forward(rig.context, hidden, saved_pooler), rows, saved);
        return {saved.logits};
      },
      [&](const std::vector<Tensor>& dy) {
        rig.ops->zero(d_hidden);
        assign(saved.logits, copy(dy[0]));
        head.backward(rig.context, rows, saved, d_pooled);
        pooler.backward(rig.context, saved_pooler, d_pooled, d_hidden);
      },
      {{"hidden", hidden, d_hidden}});
}

INSTANTIATE_TEST_SUITE_P(All, Layers, ::testing::ValuesIn(kVariants),
                         [](const auto& param_info) { return param_info.param.name; });

// --- The whole model ----------------------------------------------------------------------------

constexpr DropoutKey kKey{1234, 9};
const std::vector<std::int64_t> kLengths = {6, 1, 9, 4};

// Two micro-batches of one optimizer step: what they leave must add up.
struct WholeModel {
  explicit WholeModel(const Variant& variant)
      : WholeModel(std::make_unique<BertForPretraining>(small_config(variant),
                                                        BertForPretraining::Heads::mlm_and_nsp),
                   random_batch("whole", small_config(variant), kLengths, 3)) {}
  WholeModel(std::unique_ptr<BertModel> model, const HostBatch& host_batch)
      : batch(host_batch), run(std::move(model), reference_backend, batch.exact_capacity()) {
    randomize(run.model().parameters(), 0.3);
  }
  ModelResults step() { return run.step({batch.part(0, 2), batch.part(2, 4)}, kKey); }

  // Gradients from one step, `spoil` applied to them, against differences of its loss.
  void check(GradCheck& check,
             const std::function<void(const Parameter&, std::vector<double>&)>& spoil) {
    step();
    std::vector<std::vector<double>> analytic;
    for (const Parameter& parameter : run.model().parameters().parameters()) {
      analytic.push_back(copy(parameter.gradient));
      if (spoil) spoil(parameter, analytic.back());
    }
    std::size_t i = 0;
    for (const Parameter& parameter : run.model().parameters().parameters()) {
      check.tensor(parameter.name(), elements(parameter.value), analytic[i++]);
    }
  }

  void expect_right_gradients(const std::string& subject) {
    GradCheck check(subject, [&] { return step().loss; });
    this->check(check, {});
    EXPECT_EQ(check.rows().size(), run.model().parameters().parameters().size());
    for (const GradCheckRow& row : check.rows()) EXPECT_GT(row.largest, 0.0) << row.tensor;
    EXPECT_TRUE(check.passed()) << check.failures();
  }

  HostBatch batch;
  ModelRun run;
};

class WholeModelGradient : public ::testing::TestWithParam<Variant> {};

TEST_P(WholeModelGradient, MatchesFiniteDifferences) {
  WholeModel(GetParam()).expect_right_gradients("bert_for_pretraining/" + GetParam().name);
}

INSTANTIATE_TEST_SUITE_P(All, WholeModelGradient, ::testing::ValuesIn(kVariants),
                         [](const auto& param_info) { return param_info.param.name; });

// Each task, its labels weighted and not, by the model with its head.
class TaskModelGradient : public ::testing::TestWithParam<std::tuple<Variant, TaskCase>> {};

TEST_P(TaskModelGradient, MatchesFiniteDifferences) {
  const auto& [variant, task] = GetParam();
  BertConfig config = small_config(variant);
  config.classifier_dropout = 0.35;
  WholeModel(make_task_model(config, task), random_task_batch("task", config, task, kLengths))
      .expect_right_gradients("bert_for_task/" + task.name() + "/" + variant.name);
}

INSTANTIATE_TEST_SUITE_P(All, TaskModelGradient,
                         ::testing::Combine(::testing::Values(kVariants[0], kVariants[3]),
                                            ::testing::ValuesIn(kTaskCases)),
                         [](const auto& param_info) {
                           return std::get<1>(param_info.param).name() + "_" +
                                  std::get<0>(param_info.param).name;
                         });

// --- The check itself ---------------------------------------------------------------------------

// Every parameter in turn has a wrong gradient, and it is that one which is named.
TEST(GradCheckOfModel, NamesTheParameterWhoseGradientIsWrong) {
  WholeModel model(kVariants[1]);
  const auto loss = [&] { return model.step().loss; };
  std::vector<std::string> names;
  for (const Parameter& p : model.run.model().parameters().parameters()) names.push_back(p.name());
  for (const std::string& wrong : names) {
    GradCheck check("spoiled", loss, {.max_elements = 2});
    check.set_recorded(false);
    model.check(check, [&](const Parameter& parameter, std::vector<double>& gradient) {
      if (parameter.name() != wrong) return;
      const double more = 1e-5 * largest(gradient);
      for (double& value : gradient) value += more;
    });
    for (const GradCheckRow& row : check.rows()) {
      EXPECT_EQ(row.passed, row.tensor != wrong) << row.tensor << " when " << wrong << " is wrong";
    }
    EXPECT_NE(check.failures().find("gradient of " + wrong), std::string::npos);
  }
}

// Other dropout bits in the forward that is differentiated than in the backward.
TEST(GradCheckOfModel, NoticesOtherDropoutBits) {
  WholeModel model(kVariants[0]);
  GradCheck check("other bits",
                  [&] {
                    return model.run.step({model.batch}, DropoutKey{kKey.seed, kKey.step + 1}).loss;
                  },
                  {.max_elements = 4});
  check.set_recorded(false);
  model.check(check, {});
  EXPECT_FALSE(check.passed());
}

}  // namespace
}  // namespace bert::test
