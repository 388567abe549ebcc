#include "model/pooler.h"

namespace bert {

Pooler::Pooler(ParameterStore& store, const BertConfig& config)
    : config_(config),
      weight_(store.add({"bert.pooler.dense.weight"}, {config.hidden_size, config.hidden_size},
                        ParameterKind::weight)),
      bias_(store.add({"bert.pooler.dense.bias"}, {config.hidden_size}, ParameterKind::bias)) {}

void Pooler::plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const {
  for (Tensor* tensor : {&saved.first, &saved.pre_activation, &saved.y, &saved.d_first}) {
    *tensor = arena.take(ops.dtype(), {capacity.sequences, config_.hidden_size});
  }
}

// Sequence b starts at row cu_seqlens[b].
Tensor Pooler::first_rows(const Context& context) const {
  return context.tokens.cu_seqlens.slice(0, context.tokens.sequence_index.rows());
}

Tensor Pooler::forward(const Context& context, const Tensor& hidden, Saved& saved) const {
  context.ops->gather_rows({.x = hidden,
                            .rows = first_rows(context),
                            .count = context.tokens.num_sequences,
                            .y = saved.first});
  context.ops->linear_forward({.x = saved.first,
                               .weight = weight_.weight(),
                               .bias = bias_.compute,
                               .activation = Activation::tanh,
                               .rows = context.tokens.num_sequences,
                               .pre_activation = saved.pre_activation,
                               .y = saved.y});
  return saved.y;
}

void Pooler::backward(const Context& context, const Saved& saved, const Tensor& dy,
                      const Tensor& d_hidden) const {
  context.ops->activation_backward({.dy = dy,
                                    .activation = Activation::tanh,
                                    .pre_activation = saved.pre_activation,
                                    .rows = context.tokens.num_sequences,
                                    .dx = dy});
  context.ops->linear_backward({.dy = dy,
                                .x = saved.first,
                                .weight = weight_.weight(),
                                .rows = context.tokens.num_sequences,
                                .dx = saved.d_first,
                                .dweight = weight_.gradient,
                                .dbias = bias_.gradient});
  context.ops->scatter_add_rows({.y = saved.d_first,
                                 .rows = first_rows(context),
                                 .count = context.tokens.num_sequences,
                                 .x = d_hidden});
}

}  // namespace bert
