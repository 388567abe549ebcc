#include "model/feed_forward.h"

#include "model/hf_names.h"

namespace bert {

FeedForward::FeedForward(ParameterStore& store, const BertConfig& config, int layer)
    : config_(config),
      intermediate_weight_(store.add({hf::layer(layer) + "intermediate.dense.weight"},
                                     {config.intermediate_size, config.hidden_size},
                                     ParameterKind::weight)),
      intermediate_bias_(store.add({hf::layer(layer) + "intermediate.dense.bias"},
                                   {config.intermediate_size}, ParameterKind::bias)),
      output_weight_(store.add({hf::layer(layer) + "output.dense.weight"},
                               {config.hidden_size, config.intermediate_size},
                               ParameterKind::weight)),
      output_bias_(store.add({hf::layer(layer) + "output.dense.bias"}, {config.hidden_size},
                             ParameterKind::bias)) {}

void FeedForward::plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const {
  saved.pre_activation = arena.take(ops.dtype(), {capacity.tokens, config_.intermediate_size});
  saved.activation = arena.take(ops.dtype(), {capacity.tokens, config_.intermediate_size});
}

void FeedForward::forward(const Context& context, const Tensor& x, Saved& saved,
                          const Tensor& out) const {
  saved.x = x;
  context.ops->linear_forward({.x = x,
                               .weight = intermediate_weight_.weight(),
                               .bias = intermediate_bias_.compute,
                               .activation = config_.hidden_act,
                               .rows = context.tokens.num_tokens,
                               .pre_activation = saved.pre_activation,
                               .y = saved.activation,
                               .allow_fp8 = true});
  context.ops->linear_forward({.x = saved.activation,
                               .weight = output_weight_.weight(),
                               .rows = context.tokens.num_tokens,
                               .y = out,
                               .allow_fp8 = true});
}

void FeedForward::backward(const Context& context, const Saved& saved, BackwardWorkspace& workspace,
                           bool accumulate_dx) const {
  const std::int64_t tokens = saved.activation.rows(), wide = config_.intermediate_size;
  const Tensor d_pre_activation = workspace.d_wide.slice(0, tokens * wide).view({tokens, wide});
  context.ops->linear_backward({.dy = workspace.d_branch,
                                .x = saved.activation,
                                .weight = output_weight_.weight(),
                                .rows = context.tokens.num_tokens,
                                .input_activation = config_.hidden_act,
                                .input_pre_activation = saved.pre_activation,
                                .dx = d_pre_activation,
                                .dweight = output_weight_.gradient,
                                .allow_fp8 = true});
  context.ops->linear_backward({.dy = d_pre_activation,
                                .x = saved.x,
                                .weight = intermediate_weight_.weight(),
                                .rows = context.tokens.num_tokens,
                                .dx = workspace.d_normalized,
                                .accumulate_dx = accumulate_dx,
                                .dweight = intermediate_weight_.gradient,
                                .dbias = intermediate_bias_.gradient,
                                .allow_fp8 = true});
}

}  // namespace bert
