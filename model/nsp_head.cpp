#include "model/nsp_head.h"

namespace bert {

NspHead::NspHead(ParameterStore& store, const BertConfig& config)
    : config_(config),
      weight_(store.add({"cls.seq_relationship.weight"}, {2, config.hidden_size},
                        ParameterKind::weight)),
      bias_(store.add({"cls.seq_relationship.bias"}, {2}, ParameterKind::bias)) {}

void NspHead::plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const {
  saved.logits = arena.take(ops.dtype(), {capacity.sequences, 2});
  saved.d_pooled = arena.take(ops.dtype(), {capacity.sequences, config_.hidden_size});
}

void NspHead::forward(const Context& context, const Tensor& pooled, Saved& saved) const {
  saved.pooled = pooled;
  context.ops->linear_forward({.x = pooled,
                               .weight = weight_.weight(),
                               .bias = bias_.compute,
                               .rows = context.tokens.num_sequences,
                               .y = saved.logits});
}

Tensor NspHead::backward(const Context& context, const Saved& saved) const {
  context.ops->linear_backward({.dy = saved.logits,
                                .x = saved.pooled,
                                .weight = weight_.weight(),
                                .rows = context.tokens.num_sequences,
                                .dx = saved.d_pooled,
                                .dweight = weight_.gradient,
                                .dbias = bias_.gradient});
  return saved.d_pooled;
}

}  // namespace bert
