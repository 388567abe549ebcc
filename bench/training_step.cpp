#include "bench/training_step.h"

namespace bert::bench {

TrainingStep::TrainingStep(const BertConfig& config, BertForPretraining::Heads heads, Ops& ops,
                           Device& device, std::int64_t sequences, std::int64_t length,
                           std::int64_t masked)
    : ops_(ops), memory_(device), model_(config, heads) {
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

  loss_ = memory_.value(PretrainingLoss{});
  dropout_key_ = memory_.value(DropoutKey{1, 0});
  norm_ = memory_.value(GradientNorm{});
  adamw_step_ = memory_.value(AdamWStep{1e-4, 0.1, 0.001});
}

void TrainingStep::run() {
  *loss_ = {.mlm = {},
            .nsp = {},
            .mlm_scale = 1.0 / static_cast<double>(model_.capacity().masked),
            .nsp_scale = 1.0 / static_cast<double>(model_.capacity().sequences)};
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
              .decays = store.decays(),
              .step = adamw_step_,
              .norm = norm_});
}

}  // namespace bert::bench
