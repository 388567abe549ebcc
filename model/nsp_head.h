// NspHead: is the second segment the next one (0) or a random one (1), from the pooled [CLS].
#pragma once

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class NspHead {
 public:
  NspHead(ParameterStore& store, const BertConfig& config);

  struct Saved {
    Tensor pooled{};    // [B, C], memory of the pooler
    Tensor logits{};    // [B, 2]; CrossEntropy turns them into their gradient
    Tensor d_pooled{};  // [B, C]
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;

  void forward(const Context& context, const Tensor& pooled, Saved& saved) const;
  // saved.logits holds the gradient of the logits; returns that of `pooled`.
  Tensor backward(const Context& context, const Saved& saved) const;

 private:
  const BertConfig& config_;
  Parameter& weight_;  // [2, C]
  Parameter& bias_;
};

}  // namespace bert
