#include "model/residual_norm.h"

namespace bert {

ResidualNorm::ResidualNorm(ParameterStore& store, const BertConfig& config, Parameter& bias,
                           const std::string& norm_name, DropoutSite site, int layer)
    : config_(config),
      bias_(bias),
      gamma_(store.add({norm_name + ".weight"}, {config.hidden_size},
                       ParameterKind::layer_norm_weight)),
      beta_(store.add({norm_name + ".bias"}, {config.hidden_size}, ParameterKind::layer_norm_bias)),
      site_(site),
      layer_(layer) {}

void ResidualNorm::plan(Arena& arena, const Capacity& capacity, const Ops& ops,
                        Saved& saved) const {
  if (!config_.pre_layer_norm()) {
    saved.z = arena.take(ops.dtype(), {capacity.tokens, config_.hidden_size});
  }
  saved.mean = arena.take(ops.statistics_dtype(), {capacity.tokens});
  saved.rstd = arena.take(ops.statistics_dtype(), {capacity.tokens});
  plan_output(arena, capacity, ops, saved);
}

void ResidualNorm::plan_output(Arena& arena, const Capacity& capacity, const Ops& ops,
                               Saved& saved) const {
  if (config_.pre_layer_norm()) {
    saved.z = arena.take(ops.dtype(), {capacity.tokens, config_.hidden_size});
  }
  saved.y = arena.take(ops.dtype(), {capacity.tokens, config_.hidden_size});
}

Stream ResidualNorm::output(const Saved& saved) const {
  return {saved.y, config_.pre_layer_norm() ? saved.z : saved.y};
}

Stream ResidualNorm::forward(const Context& context, const Stream& in, Saved& saved) const {
  context.ops->bias_dropout_residual_layer_norm_forward({
      .x = saved.z,
      .bias = bias_.value,
      .residual = in.residual,
      .gamma = gamma_.value,
      .beta = beta_.value,
      .epsilon = config_.layer_norm_eps,
      .dropout =
          context.dropout(config_.hidden_dropout_prob, site_, static_cast<std::uint32_t>(layer_)),
      .tokens = context.tokens,
      .z = saved.z,
      .y = saved.y,
      .mean = saved.mean,
      .rstd = saved.rstd,
  });
  return output(saved);
}

void ResidualNorm::backward(const Context& context, const Saved& saved,
                            BackwardWorkspace& workspace, bool is_last) const {
  const bool pre = config_.pre_layer_norm();
  context.ops->bias_dropout_residual_layer_norm_backward({
      .dy = workspace.d_normalized,
      .dz = pre && !is_last ? workspace.d_residual : Tensor(),
      .z = saved.z,
      .gamma = gamma_.value,
      .mean = saved.mean,
      .rstd = saved.rstd,
      .dropout =
          context.dropout(config_.hidden_dropout_prob, site_, static_cast<std::uint32_t>(layer_)),
      .tokens = context.tokens,
      .dresidual = pre ? workspace.d_residual : workspace.d_normalized,
      .dx = workspace.d_branch,
      .dgamma = gamma_.gradient,
      .dbeta = beta_.gradient,
      .dbias = bias_.gradient,
  });
}

}  // namespace bert
