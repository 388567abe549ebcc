#include "model/embeddings.h"

#include "model/hf_names.h"

namespace bert {

Embeddings::Embeddings(ParameterStore& store, const BertConfig& config)
    : config_(config),
      word_(store.add(hf::embedding("word"), {config.vocab_size, config.hidden_size},
                      ParameterKind::weight, kVocabularyMultiple)),
      position_(store.add(hf::embedding("position"),
                          {config.max_position_embeddings, config.hidden_size},
                          ParameterKind::weight)),
      type_(store.add(hf::embedding("token_type"), {config.type_vocab_size, config.hidden_size},
                      ParameterKind::weight)) {
  if (config.pre_layer_norm()) return;
  const std::string name = hf::embeddings_layer_norm();
  gamma_ = &store.add({name + ".weight"}, {config.hidden_size}, ParameterKind::layer_norm_weight);
  beta_ = &store.add({name + ".bias"}, {config.hidden_size}, ParameterKind::layer_norm_bias);
}

void Embeddings::plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const {
  saved.y = arena.take(ops.dtype(), {capacity.tokens, config_.hidden_size});
  if (gamma_ == nullptr) return;
  saved.mean = arena.take(ops.statistics_dtype(), {capacity.tokens});
  saved.rstd = arena.take(ops.statistics_dtype(), {capacity.tokens});
}

Tensor Embeddings::forward(const Context& context, const Tensor& input_ids,
                           const Tensor& token_type_ids, Saved& saved) const {
  context.ops->embeddings_forward({
      .input_ids = input_ids,
      .token_type_ids = token_type_ids,
      .tokens = context.tokens,
      .word = word_.compute,
      .position = position_.compute,
      .type = type_.compute,
      .gamma = gamma_ ? gamma_->value : Tensor(),
      .beta = beta_ ? beta_->value : Tensor(),
      .epsilon = config_.layer_norm_eps,
      .dropout = context.dropout(config_.hidden_dropout_prob, DropoutSite::embeddings),
      .y = saved.y,
      .mean = saved.mean,
      .rstd = saved.rstd,
  });
  return saved.y;
}

void Embeddings::backward(const Context& context, const Tensor& input_ids,
                          const Tensor& token_type_ids, const Saved& saved,
                          const Tensor& dy) const {
  context.ops->embeddings_backward({
      .input_ids = input_ids,
      .token_type_ids = token_type_ids,
      .tokens = context.tokens,
      .word = word_.compute,
      .position = position_.compute,
      .type = type_.compute,
      .gamma = gamma_ ? gamma_->value : Tensor(),
      .mean = saved.mean,
      .rstd = saved.rstd,
      .dropout = context.dropout(config_.hidden_dropout_prob, DropoutSite::embeddings),
      .dy = dy,
      .dword = word_.compute_gradient,
      .dposition = position_.gradient,
      .dtype = type_.gradient,
      .dgamma = gamma_ ? gamma_->gradient : Tensor(),
      .dbeta = beta_ ? beta_->gradient : Tensor(),
  });
}

}  // namespace bert
