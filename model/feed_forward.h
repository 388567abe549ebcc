// FeedForward: W2 gelu(W1 x + b1), without b2, which the closing ResidualNorm adds.
#pragma once

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class FeedForward {
 public:
  FeedForward(ParameterStore& store, const BertConfig& config, int layer);

  struct Saved {
    Tensor x{};               // [T, C], the input; memory of the block before
    Tensor pre_activation{};  // [T, I]
    Tensor activation{};      // [T, I]
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;

  // x [T, C] -> out [T, C].
  void forward(const Context& context, const Tensor& x, Saved& saved, const Tensor& out) const;
  // From workspace.d_branch, the gradient of `out`, to d_normalized, the gradient of x: added to
  // what is there if `accumulate_dx`.
  void backward(const Context& context, const Saved& saved, BackwardWorkspace& workspace,
                bool accumulate_dx) const;

  Parameter& output_bias() const { return output_bias_; }

 private:
  const BertConfig& config_;
  Parameter& intermediate_weight_;  // [I, C]
  Parameter& intermediate_bias_;
  Parameter& output_weight_;  // [C, I]
  Parameter& output_bias_;
};

}  // namespace bert
