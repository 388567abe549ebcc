// SelfAttention: one product for query, key and value, the heads, the output product (without its
// bias, which the closing ResidualNorm adds).
#pragma once

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class SelfAttention {
 public:
  SelfAttention(ParameterStore& store, const BertConfig& config, int layer);

  struct Saved {
    Tensor x{};    // [T, C], the input; memory of the block before
    Tensor qkv{};  // [T, 3C]
    Tensor y{};    // [T, C], the heads' outputs side by side
    Tensor lse{};  // [NH, T]
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;

  // x [T, C] -> out [T, C].
  void forward(const Context& context, const Tensor& x, Saved& saved, const Tensor& out) const;
  // From workspace.d_branch, the gradient of `out`, to d_normalized, the gradient of x: added to
  // what is there if `accumulate_dx`, or not computed without `wants_dx`.
  void backward(const Context& context, const Saved& saved, BackwardWorkspace& workspace,
                bool accumulate_dx, bool wants_dx) const;

  Parameter& output_bias() const { return output_bias_; }

 private:
  Dropout dropout(const Context& context) const;

  const BertConfig& config_;
  int layer_;
  Parameter& qkv_weight_;  // [3C, C]: query, key, value
  Parameter& qkv_bias_;
  Parameter& output_weight_;  // [C, C]
  Parameter& output_bias_;
};

}  // namespace bert
