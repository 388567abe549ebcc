#include "model/mlm_head.h"

namespace bert {

MlmHead::MlmHead(ParameterStore& store, const BertConfig& config, Parameter& word_embeddings)
    : config_(config),
      word_embeddings_(word_embeddings),
      dense_weight_(store.add({"cls.predictions.transform.dense.weight"},
                              {config.hidden_size, config.hidden_size}, ParameterKind::weight)),
      dense_bias_(store.add({"cls.predictions.transform.dense.bias"}, {config.hidden_size},
                            ParameterKind::bias)),
      gamma_(store.add({"cls.predictions.transform.LayerNorm.weight"}, {config.hidden_size},
                       ParameterKind::layer_norm_weight)),
      beta_(store.add({"cls.predictions.transform.LayerNorm.bias"}, {config.hidden_size},
                      ParameterKind::layer_norm_bias)),
      decoder_bias_(store.add({"cls.predictions.bias"}, {config.vocab_size}, ParameterKind::bias,
                              kVocabularyMultiple)) {}

void MlmHead::plan(Arena& arena, const Capacity& capacity, const Ops& ops, bool with_gradients,
                   Saved& saved) const {
  for (Tensor* tensor :
       {&saved.gathered, &saved.pre_activation, &saved.activation, &saved.normalized}) {
    *tensor = arena.take(ops.dtype(), {capacity.masked, config_.hidden_size});
  }
  saved.mean = arena.take(ops.statistics_dtype(), {capacity.masked});
  saved.rstd = arena.take(ops.statistics_dtype(), {capacity.masked});
  saved.logits = arena.take(ops.dtype(), {capacity.masked, word_embeddings_.stored_rows()});
  if (!with_gradients) return;
  saved.d_hidden = arena.take(ops.dtype(), {capacity.masked, config_.hidden_size});
  saved.d_gathered = arena.take(ops.dtype(), {capacity.masked, config_.hidden_size});
}

void MlmHead::forward(const Context& context, const Tensor& hidden, const Tensor& masked_rows,
                      DeviceCount num_masked, Saved& saved) const {
  context.ops->gather_rows(
      {.x = hidden, .rows = masked_rows, .count = num_masked, .y = saved.gathered});
  context.ops->linear_forward({.x = saved.gathered,
                               .weight = dense_weight_.weight(),
                               .bias = dense_bias_.compute,
                               .activation = config_.hidden_act,
                               .rows = num_masked,
                               .pre_activation = saved.pre_activation,
                               .y = saved.activation});
  context.ops->layer_norm_forward({.x = saved.activation,
                                   .gamma = gamma_.value,
                                   .beta = beta_.value,
                                   .epsilon = config_.layer_norm_eps,
                                   .rows = num_masked,
                                   .y = saved.normalized,
                                   .mean = saved.mean,
                                   .rstd = saved.rstd});
  context.ops->linear_forward({.x = saved.normalized,
                               .weight = word_embeddings_.weight(),
                               .bias = decoder_bias_.compute,
                               .rows = num_masked,
                               .y = saved.logits});
}

void MlmHead::backward(const Context& context, const Tensor& masked_rows, DeviceCount num_masked,
                       const Saved& saved, const Tensor& d_hidden) const {
  context.ops->linear_backward({.dy = saved.logits,
                                .x = saved.normalized,
                                .weight = word_embeddings_.weight(),
                                .rows = num_masked,
                                .dx = saved.d_hidden,
                                .dweight = word_embeddings_.compute_gradient,
                                .dbias = decoder_bias_.compute_gradient});
  context.ops->layer_norm_backward({.dy = saved.d_hidden,
                                    .x = saved.activation,
                                    .gamma = gamma_.value,
                                    .mean = saved.mean,
                                    .rstd = saved.rstd,
                                    .rows = num_masked,
                                    .dx = saved.d_hidden,
                                    .dgamma = gamma_.gradient,
                                    .dbeta = beta_.gradient});
  context.ops->activation_backward({.dy = saved.d_hidden,
                                    .activation = config_.hidden_act,
                                    .pre_activation = saved.pre_activation,
                                    .rows = num_masked,
                                    .dx = saved.d_hidden});
  context.ops->linear_backward({.dy = saved.d_hidden,
                                .x = saved.gathered,
                                .weight = dense_weight_.weight(),
                                .rows = num_masked,
                                .dx = saved.d_gathered,
                                .dweight = dense_weight_.gradient,
                                .dbias = dense_bias_.gradient});
  context.ops->scatter_add_rows(
      {.y = saved.d_gathered, .rows = masked_rows, .count = num_masked, .x = d_hidden});
}

}  // namespace bert
