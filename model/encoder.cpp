#include "model/encoder.h"

#include <algorithm>

#include "model/hf_names.h"

namespace bert {

Encoder::Encoder(ParameterStore& store, const BertConfig& config) : config_(config) {
  if (config.pre_layer_norm()) {
    const std::string name = hf::pre_attention_layer_norm(0);
    first_gamma_ =
        &store.add({name + ".weight"}, {config.hidden_size}, ParameterKind::layer_norm_weight);
    first_beta_ =
        &store.add({name + ".bias"}, {config.hidden_size}, ParameterKind::layer_norm_bias);
  }
  layer_begins_.push_back(store.flat_size());
  for (int layer = 0; layer < config.num_hidden_layers; ++layer) {
    layers_.push_back(std::make_unique<EncoderLayer>(store, config, layer));
    layer_begins_.push_back(store.flat_size());
  }
}

void Encoder::plan(Arena& arena, const Capacity& capacity, const Ops& ops, bool shared,
                   Saved& saved) const {
  saved.shared = shared;
  if (config_.pre_layer_norm()) {
    saved.first_norm = arena.take(ops.dtype(), {capacity.tokens, config_.hidden_size});
    saved.mean = arena.take(ops.statistics_dtype(), {capacity.tokens});
    saved.rstd = arena.take(ops.statistics_dtype(), {capacity.tokens});
  }
  saved.layers.resize(layers_.size());
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (shared && i > 0) {
      saved.layers[i] = saved.layers[0];
      layers_[i]->plan_output(arena, capacity, ops, saved.layers[i]);
    } else {
      layers_[i]->plan(arena, capacity, ops, saved.layers[i]);
    }
  }
}

void Encoder::plan_backward(Arena& arena, const Capacity& capacity, const Ops& ops,
                            BackwardWorkspace& workspace) const {
  const std::int64_t tokens = capacity.tokens, channels = config_.hidden_size;
  workspace.d_normalized = arena.take(ops.dtype(), {tokens, channels});
  if (config_.pre_layer_norm()) workspace.d_residual = arena.take(ops.dtype(), {tokens, channels});
  workspace.d_branch = arena.take(ops.dtype(), {tokens, channels});
  workspace.d_attention = arena.take(ops.dtype(), {tokens, channels});
  const std::int64_t wide = std::max<std::int64_t>(3 * channels, config_.intermediate_size);
  workspace.d_wide = arena.take(ops.dtype(), {tokens * wide});
}

Tensor Encoder::forward(const Context& context, const Tensor& x, Saved& saved) const {
  saved.x = x;
  if (config_.pre_layer_norm()) {
    context.ops->layer_norm_forward({.x = x,
                                     .gamma = first_gamma_->value,
                                     .beta = first_beta_->value,
                                     .epsilon = config_.layer_norm_eps,
                                     .rows = context.tokens.num_tokens,
                                     .y = saved.first_norm,
                                     .mean = saved.mean,
                                     .rstd = saved.rstd});
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    layers_[i]->forward(context, input_of(i, saved), saved.layers[i]);
  }
  return input_of(layers_.size(), saved).normalized;
}

Stream Encoder::input_of(std::size_t i, const Saved& saved) const {
  if (i > 0) return layers_[i - 1]->output(saved.layers[i - 1]);
  return {config_.pre_layer_norm() ? saved.first_norm : saved.x, saved.x};
}

void Encoder::layer_backward(std::size_t i, const Context& context, Saved& saved,
                             BackwardWorkspace& workspace, bool wants_dx,
                             const GradientsReady& ready) const {
  const bool is_last = i + 1 == layers_.size();
  // The last layer's forward was the last one to use the shared memory.
  if (saved.shared && !is_last) {
    layers_[i]->forward(context, input_of(i, saved), saved.layers[i]);
  }
  layers_[i]->backward(context, saved.layers[i], workspace, is_last, wants_dx);
  if (ready) ready(layer_begins_[i], layer_begins_[i + 1]);
}

void Encoder::backward_down_to(std::int64_t lowest, const Context& context, Saved& saved,
                               BackwardWorkspace& workspace, const GradientsReady& ready) const {
  const auto end = static_cast<std::size_t>(lowest);
  for (std::size_t i = layers_.size(); i-- > end;) {
    layer_backward(i, context, saved, workspace, /*wants_dx=*/i > end, ready);
  }
}

Tensor Encoder::backward(const Context& context, Saved& saved, BackwardWorkspace& workspace,
                         const GradientsReady& ready) const {
  for (std::size_t i = layers_.size(); i-- > 0;) {
    layer_backward(i, context, saved, workspace, /*wants_dx=*/true, ready);
  }
  if (!config_.pre_layer_norm()) return workspace.d_normalized;
  context.ops->layer_norm_backward({.dy = workspace.d_normalized,
                                    .x = saved.x,
                                    .gamma = first_gamma_->value,
                                    .mean = saved.mean,
                                    .rstd = saved.rstd,
                                    .rows = context.tokens.num_tokens,
                                    .dx = workspace.d_residual,
                                    .accumulate_dx = true,
                                    .dgamma = first_gamma_->gradient,
                                    .dbeta = first_beta_->gradient});
  return workspace.d_residual;
}

}  // namespace bert
