#include "model/linear_head.h"

namespace bert {

LinearHead::LinearHead(ParameterStore& store, const BertConfig& config, const std::string& name,
                       std::int64_t outputs)
    : weight_(store.add({name + ".weight"}, {outputs, config.hidden_size}, ParameterKind::weight)),
      bias_(store.add({name + ".bias"}, {outputs}, ParameterKind::bias)) {}

void LinearHead::plan(Arena& arena, std::int64_t rows, const Ops& ops, Saved& saved) const {
  saved.logits = arena.take(ops.dtype(), {rows, outputs()});
}

void LinearHead::forward(const Context& context, const Tensor& x, DeviceCount rows,
                         Saved& saved) const {
  saved.x = x;
  context.ops->linear_forward(
      {.x = x, .weight = weight_.weight(), .bias = bias_.compute, .rows = rows, .y = saved.logits});
}

void LinearHead::backward(const Context& context, DeviceCount rows, const Saved& saved,
                          const Tensor& dx) const {
  context.ops->linear_backward({.dy = saved.logits,
                                .x = saved.x,
                                .weight = weight_.weight(),
                                .rows = rows,
                                .dx = dx,
                                .dweight = weight_.gradient,
                                .dbias = bias_.gradient});
}

}  // namespace bert
