#include "bench/training_step.h"

namespace bert::bench {

TrainingStep::TrainingStep(const BertConfig& config, Ops& ops, Device& device,
                           std::int64_t sequences, std::int64_t length, std::int64_t masked)
    : config_(config),
      ops_(ops),
      memory_(device),
      tokens_(sequences * length),
      masked_(masked),
      embeddings_(store_, config_),
      encoder_(store_, config_) {
  const std::int64_t C = config_.hidden_size, V = config_.vocab_size;
  const std::string transform = "cls.predictions.transform.";
  head_.weight = &store_.add({transform + "dense.weight"}, {C, C}, ParameterKind::weight);
  head_.bias = &store_.add({transform + "dense.bias"}, {C}, ParameterKind::bias);
  head_.gamma =
      &store_.add({transform + "LayerNorm.weight"}, {C}, ParameterKind::layer_norm_weight);
  head_.beta = &store_.add({transform + "LayerNorm.bias"}, {C}, ParameterKind::layer_norm_bias);
  head_.decoder_bias = &store_.add({"cls.predictions.bias"}, {V}, ParameterKind::bias);
  store_.allocate(device, ops.dtype(), true);
  store_.initialize(config_, 1);
  m_ = memory_.zeros(DType::f32, {store_.values().numel()});
  v_ = memory_.zeros(DType::f32, {store_.values().numel()});

  context_ = {&ops_, memory_.value(DropoutKey{1, 0}), packed_tokens(memory_, sequences, length)};
  capacity_ = {tokens_, sequences, masked, length};
  input_ids_ = memory_.random_ids(tokens_, static_cast<std::int32_t>(V));
  token_type_ids_ = memory_.zeros(DType::i32, {tokens_});
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < masked; ++i) {
    rows.push_back(static_cast<std::int32_t>(i * tokens_ / masked));
  }
  masked_rows_ = memory_.i32(rows);
  targets_ = memory_.random_ids(masked, static_cast<std::int32_t>(V));
  masked_count_ = memory_.value(static_cast<std::int32_t>(masked));
  loss_scale_ = memory_.value(1.0 / static_cast<double>(masked));
  sums_ = memory_.value(LossSums{});
  norm_ = memory_.value(GradientNorm{});
  adamw_step_ = memory_.value(AdamWStep{1e-4, 0.1, 0.001});
  arena_.build(device, [this](Arena& arena) { plan(arena); });
}

void TrainingStep::plan(Arena& arena) {
  embeddings_.plan(arena, capacity_, ops_, saved_embeddings_);
  encoder_.plan(arena, capacity_, ops_, saved_encoder_);
  encoder_.plan_backward(arena, capacity_, ops_, workspace_);
  const std::int64_t C = config_.hidden_size;
  for (Tensor* tensor : {&head_.x, &head_.pre_activation, &head_.activation, &head_.normalized,
                         &head_.d_normalized, &head_.d_activation, &head_.d_x}) {
    *tensor = arena.take(ops_.dtype(), {masked_, C});
  }
  head_.mean = arena.take(ops_.statistics_dtype(), {masked_});
  head_.rstd = arena.take(ops_.statistics_dtype(), {masked_});
  head_.logits = arena.take(ops_.dtype(), {masked_, config_.vocab_size});
}

void TrainingStep::run() {
  *sums_ = {};
  ops_.zero(store_.gradients());
  const Tensor x = embeddings_.forward(context_, input_ids_, token_type_ids_, saved_embeddings_);
  head_forward(encoder_.forward(context_, x, saved_encoder_));
  head_backward();
  const Tensor dx = encoder_.backward(context_, saved_encoder_, workspace_);
  embeddings_.backward(context_, input_ids_, token_type_ids_, saved_embeddings_, dx);
  update();
}

double TrainingStep::loss() const { return sums_->loss / static_cast<double>(sums_->count); }

void TrainingStep::head_forward(const Tensor& hidden) {
  ops_.gather_rows({.x = hidden, .rows = masked_rows_, .count = masked_count_, .y = head_.x});
  ops_.linear_forward({.x = head_.x,
                       .weight = head_.weight->weight(),
                       .bias = head_.bias->value,
                       .activation = config_.hidden_act,
                       .rows = masked_count_,
                       .pre_activation = head_.pre_activation,
                       .y = head_.activation});
  ops_.layer_norm_forward({.x = head_.activation,
                           .gamma = head_.gamma->value,
                           .beta = head_.beta->value,
                           .epsilon = config_.layer_norm_eps,
                           .rows = masked_count_,
                           .y = head_.normalized,
                           .mean = head_.mean,
                           .rstd = head_.rstd});
  ops_.linear_forward({.x = head_.normalized,
                       .weight = embeddings_.word().weight(),
                       .bias = head_.decoder_bias->value,
                       .rows = masked_count_,
                       .y = head_.logits});
  ops_.cross_entropy({.logits = head_.logits,
                      .targets = targets_,
                      .rows = masked_count_,
                      .loss_scale = loss_scale_,
                      .sums = sums_});
}

void TrainingStep::head_backward() {
  ops_.linear_backward({.dy = head_.logits,
                        .x = head_.normalized,
                        .weight = embeddings_.word().weight(),
                        .rows = masked_count_,
                        .dx = head_.d_normalized,
                        .dweight = embeddings_.word().gradient,
                        .dbias = head_.decoder_bias->gradient});
  ops_.layer_norm_backward({.dy = head_.d_normalized,
                            .x = head_.activation,
                            .gamma = head_.gamma->value,
                            .mean = head_.mean,
                            .rstd = head_.rstd,
                            .rows = masked_count_,
                            .dx = head_.d_activation,
                            .dgamma = head_.gamma->gradient,
                            .dbeta = head_.beta->gradient});
  ops_.activation_backward({.dy = head_.d_activation,
                            .activation = config_.hidden_act,
                            .pre_activation = head_.pre_activation,
                            .rows = masked_count_,
                            .dx = head_.d_activation});
  ops_.linear_backward({.dy = head_.d_activation,
                        .x = head_.x,
                        .weight = head_.weight->weight(),
                        .rows = masked_count_,
                        .dx = head_.d_x,
                        .dweight = head_.weight->gradient,
                        .dbias = head_.bias->gradient});
  ops_.zero(workspace_.d_normalized);
  ops_.scatter_add_rows(
      {.y = head_.d_x, .rows = masked_rows_, .count = masked_count_, .x = workspace_.d_normalized});
}

void TrainingStep::update() {
  ops_.gradient_norm({.gradients = store_.gradients(), .max_norm = 1.0, .result = norm_});
  ops_.adamw({.parameters = store_.values(),
              .gradients = store_.gradients(),
              .m = m_,
              .v = v_,
              .decays = store_.decays(),
              .step = adamw_step_,
              .norm = norm_});
}

}  // namespace bert::bench
