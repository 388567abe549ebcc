#include "model/self_attention.h"

#include "model/hf_names.h"

namespace bert {
namespace {

std::vector<std::string> query_key_value(int layer, const std::string& suffix) {
  const std::string self = hf::layer(layer) + "attention.self.";
  return {self + "query" + suffix, self + "key" + suffix, self + "value" + suffix};
}

}  // namespace

SelfAttention::SelfAttention(ParameterStore& store, const BertConfig& config, int layer)
    : config_(config),
      layer_(layer),
      qkv_weight_(store.add(query_key_value(layer, ".weight"),
                            {3 * config.hidden_size, config.hidden_size}, ParameterKind::weight)),
      qkv_bias_(store.add(query_key_value(layer, ".bias"), {3 * config.hidden_size},
                          ParameterKind::bias)),
      output_weight_(store.add({hf::layer(layer) + "attention.output.dense.weight"},
                               {config.hidden_size, config.hidden_size}, ParameterKind::weight)),
      output_bias_(store.add({hf::layer(layer) + "attention.output.dense.bias"},
                             {config.hidden_size}, ParameterKind::bias)) {}

void SelfAttention::plan(Arena& arena, const Capacity& capacity, const Ops& ops,
                         Saved& saved) const {
  saved.qkv = arena.take(ops.dtype(), {capacity.tokens, 3 * config_.hidden_size});
  saved.y = arena.take(ops.dtype(), {capacity.tokens, config_.hidden_size});
  saved.lse = arena.take(ops.statistics_dtype(), {config_.num_attention_heads, capacity.tokens});
}

Dropout SelfAttention::dropout(const Context& context) const {
  return context.dropout(config_.attention_probs_dropout_prob, DropoutSite::attention,
                         static_cast<std::uint32_t>(layer_));
}

void SelfAttention::forward(const Context& context, const Tensor& x, Saved& saved,
                            const Tensor& out) const {
  saved.x = x;
  context.ops->linear_forward({.x = x,
                               .weight = qkv_weight_.weight(),
                               .bias = qkv_bias_.compute,
                               .rows = context.tokens.num_tokens,
                               .y = saved.qkv,
                               .allow_fp8 = true});
  context.ops->attention_forward({.qkv = saved.qkv,
                                  .num_heads = config_.num_attention_heads,
                                  .tokens = context.tokens,
                                  .dropout = dropout(context),
                                  .y = saved.y,
                                  .lse = saved.lse});
  context.ops->linear_forward({.x = saved.y,
                               .weight = output_weight_.weight(),
                               .rows = context.tokens.num_tokens,
                               .y = out,
                               .allow_fp8 = true});
}

void SelfAttention::backward(const Context& context, const Saved& saved,
                             BackwardWorkspace& workspace, bool accumulate_dx,
                             bool wants_dx) const {
  const std::int64_t tokens = saved.qkv.rows(), channels = config_.hidden_size;
  const Tensor d_qkv =
      workspace.d_wide.slice(0, tokens * 3 * channels).view({tokens, 3 * channels});
  context.ops->linear_backward({.dy = workspace.d_branch,
                                .x = saved.y,
                                .weight = output_weight_.weight(),
                                .rows = context.tokens.num_tokens,
                                .dx = workspace.d_attention,
                                .dweight = output_weight_.gradient,
                                .allow_fp8 = true});
  context.ops->attention_backward({.dy = workspace.d_attention,
                                   .y = saved.y,
                                   .qkv = saved.qkv,
                                   .lse = saved.lse,
                                   .num_heads = config_.num_attention_heads,
                                   .tokens = context.tokens,
                                   .dropout = dropout(context),
                                   .dqkv = d_qkv});
  context.ops->linear_backward({.dy = d_qkv,
                                .x = saved.x,
                                .weight = qkv_weight_.weight(),
                                .rows = context.tokens.num_tokens,
                                .dx = wants_dx ? workspace.d_normalized : Tensor(),
                                .accumulate_dx = accumulate_dx && wants_dx,
                                .dweight = qkv_weight_.gradient,
                                .dbias = qkv_bias_.gradient,
                                .allow_fp8 = true});
}

}  // namespace bert
