#include "bench/model_step.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

#include "train/profile/utilisation.h"

namespace bert::bench {

ModelStep::ModelStep(StepKind kind, const BertConfig& config, BertForPretraining::Heads heads,
                     Ops& ops, Device& device, const Lengths& lengths, std::int64_t masked)
    : kind_(kind), ops_(ops), device_(device), memory_(device), model_(config, heads) {
  const auto sequences = static_cast<std::int64_t>(lengths.size());
  const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  const std::int64_t longest = *std::max_element(lengths.begin(), lengths.end());
  for (const std::int64_t length : lengths) {
    squared_lengths_ += static_cast<double>(length) * static_cast<double>(length);
  }
  model_.allocate(device, ops, {tokens, sequences, masked, longest}, kind == StepKind::training);
  if (kind == StepKind::training) {
    const std::int64_t flat = model_.parameters().values().numel();
    m_ = memory_.zeros(DType::f32, {flat});
    v_ = memory_.zeros(DType::f32, {flat});
  }

  const auto vocabulary = static_cast<std::int32_t>(config.vocab_size);
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < masked; ++i) {
    rows.push_back(static_cast<std::int32_t>(i * tokens / masked));
  }
  input_.input_ids = memory_.random_ids(tokens, vocabulary);
  input_.token_type_ids = memory_.zeros(DType::i32, {tokens});
  input_.tokens = packed_tokens(memory_, lengths);
  input_.masked_rows = memory_.i32(rows);
  input_.masked_targets = memory_.random_ids(masked, vocabulary);
  input_.num_masked = memory_.value(static_cast<std::int32_t>(masked));
  if (model_.has_nsp()) input_.sequence_labels = memory_.random_ids(sequences, 2);

  loss_ = memory_.value(ModelLoss{.main = {},
                                  .nsp = {},
                                  .main_scale = 1.0 / static_cast<double>(masked),
                                  .nsp_scale = 1.0 / static_cast<double>(sequences)});
  dropout_key_ = memory_.value(DropoutKey{1, 0});
  norm_ = memory_.value(GradientNorm{});
  adamw_step_ = memory_.value(AdamWStep{1e-4, 0.1, 0.001});
  fill_weights();
}

// ParameterStore::initialize draws every weight on the host, which takes longer than all the steps.
void ModelStep::fill_weights() {
  const ParameterStore& store = model_.parameters();
  memory_.fill_random(store.values(),
                      static_cast<float>(std::sqrt(3.0) * model_.config().initializer_range));
  for (const Parameter& parameter : store.parameters()) {
    if (parameter.kind == ParameterKind::weight) continue;
    const double value = parameter.kind == ParameterKind::layer_norm_weight ? 1.0 : 0.0;
    model_.parameters().write(
        parameter.value, std::vector<double>(static_cast<std::size_t>(parameter.numel()), value));
  }
  if (kind_ == StepKind::inference) return model_.parameters().refresh_compute();
  ops_.zero(store.gradients());
  update();  // without gradients: for the copies in the compute dtype, which AdamW writes
}

void ModelStep::run() {
  if (kind_ == StepKind::inference) return model_.forward(input_, nullptr);
  static_assert(offsetof(ModelLoss, main) == 0 && offsetof(ModelLoss, nsp) == sizeof(LossSums));
  ops_.zero(Tensor(loss_, DType::u8, {2 * sizeof(LossSums)}));
  ops_.zero(model_.parameters().gradients());
  model_.forward(input_, dropout_key_);
  model_.loss(input_, loss_, true);
  model_.backward(input_);
  update();
}

void ModelStep::update() {
  const ParameterStore& store = model_.parameters();
  ops_.gradient_norm({.gradients = store.gradients(), .max_norm = 1.0, .result = norm_});
  ops_.adamw({.parameters = store.values(),
              .gradients = store.gradients(),
              .m = m_,
              .v = v_,
              .compute = store.compute_copies(),
              .decays = store.decays(),
              .step = adamw_step_,
              .norm = norm_});
}

double ModelStep::loss() const {
  ModelLoss loss;
  device_.copy_to_host(&loss, loss_, sizeof loss);
  return loss.main.loss / static_cast<double>(loss.main.count);
}

double ModelStep::necessary_flop() const {
  const Capacity& capacity = model_.capacity();
  const double training =
      bert::necessary_flop(model_.config(), static_cast<double>(capacity.tokens), squared_lengths_,
                           static_cast<double>(capacity.masked));
  return kind_ == StepKind::training ? training : training / 3.0;
}

std::size_t ModelStep::parameter_bytes() const {
  const ParameterStore& store = model_.parameters();
  std::size_t bytes = 0;
  for (const Tensor& flat : {store.values(), store.gradients(), m_, v_, store.compute_copies()}) {
    if (flat) bytes += flat.bytes();
  }
  return bytes;
}

}  // namespace bert::bench
