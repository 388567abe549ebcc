#include "bench/training_step.h"

#include <cstddef>

namespace bert::bench {

TrainingStep::TrainingStep(const BertConfig& config, BertForPretraining::Heads heads, Ops& ops,
                           Device& device, std::int64_t sequences, std::int64_t length,
                           std::int64_t masked)
    : ops_(ops), device_(device), memory_(device), model_(config, heads) {
  const std::int64_t tokens = sequences * length;
  model_.allocate(device, ops, {tokens, sequences, masked, length}, true);
  model_.parameters().initialize(config, 1);
  const std::int64_t flat = model_.parameters().values().numel();
  m_ = memory_.zeros(DType::f32, {flat});
  v_ = memory_.zeros(DType::f32, {flat});

  const auto vocabulary = static_cast<std::int32_t>(config.vocab_size);
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < masked; ++i) {
    rows.push_back(static_cast<std::int32_t>(i * tokens / masked));
  }
  input_.input_ids = memory_.random_ids(tokens, vocabulary);
  input_.token_type_ids = memory_.zeros(DType::i32, {tokens});
  input_.tokens = packed_tokens(memory_, sequences, length);
  input_.masked_rows = memory_.i32(rows);
  input_.masked_targets = memory_.random_ids(masked, vocabulary);
  input_.num_masked = memory_.value(static_cast<std::int32_t>(masked));
  if (model_.has_nsp()) input_.nsp_labels = memory_.random_ids(sequences, 2);

  loss_ = memory_.value(PretrainingLoss{.mlm = {},
                                        .nsp = {},
                                        .mlm_scale = 1.0 / static_cast<double>(masked),
                                        .nsp_scale = 1.0 / static_cast<double>(sequences)});
  dropout_key_ = memory_.value(DropoutKey{1, 0});
  norm_ = memory_.value(GradientNorm{});
  adamw_step_ = memory_.value(AdamWStep{1e-4, 0.1, 0.001});
}

void TrainingStep::run() {
  static_assert(offsetof(PretrainingLoss, mlm) == 0 &&
                offsetof(PretrainingLoss, nsp) == sizeof(LossSums));
  ops_.zero(Tensor(loss_, DType::u8, {2 * sizeof(LossSums)}));
  ops_.zero(model_.parameters().gradients());
  model_.forward(input_, dropout_key_);
  model_.loss(input_, loss_, true);
  model_.backward(input_);
  update();
}

void TrainingStep::update() {
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

double TrainingStep::loss() const {
  PretrainingLoss loss;
  device_.copy_to_host(&loss, loss_, sizeof loss);
  return loss.mlm.loss / static_cast<double>(loss.mlm.count);
}

double TrainingStep::necessary_flop() const {
  const BertConfig& config = model_.config();
  const Capacity& capacity = model_.capacity();
  const auto C = static_cast<double>(config.hidden_size);
  const auto I = static_cast<double>(config.intermediate_size);
  const double of_token = 2.0 * (4.0 * C * C + 2.0 * C * I) +
                          4.0 * static_cast<double>(capacity.max_seqlen) * C;  // of a layer
  const double of_masked = 2.0 * (C * C + C * static_cast<double>(config.vocab_size));
  return 3.0 * (static_cast<double>(capacity.tokens) *
                    static_cast<double>(config.num_hidden_layers) * of_token +
                static_cast<double>(capacity.masked) * of_masked);
}

std::size_t TrainingStep::parameter_bytes() const {
  const ParameterStore& store = model_.parameters();
  return store.values().bytes() + store.gradients().bytes() + m_.bytes() + v_.bytes() +
         (store.compute_copies() ? store.compute_copies().bytes() : 0);
}

}  // namespace bert::bench
