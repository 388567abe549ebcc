// ResidualNorm: what closes each branch of an encoder layer, fused into one op:
// residual' = dropout(branch + bias) + residual; normalized' = LayerNorm(residual').
#pragma once

#include <string>

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class ResidualNorm {
 public:
  // `bias`: the bias of the product that made the branch's output. `norm_name`: the LayerNorm's
  // Hugging Face name without ".weight".
  ResidualNorm(ParameterStore& store, const BertConfig& config, Parameter& bias,
               const std::string& norm_name, DropoutSite site, int layer);

  struct Saved {
    Tensor z{};             // [T, C], the sum; holds the branch's product before
    Tensor mean{}, rstd{};  // [T]
    Tensor y{};             // [T, C]
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;
  // The tensors that output() gives; the others of `saved` stay as they are.
  void plan_output(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;
  Stream output(const Saved& saved) const;

  // saved.z holds the branch's output [T, C] without its bias and is overwritten with the sum.
  Stream forward(const Context& context, const Stream& in, Saved& saved) const;
  // Reads workspace.d_normalized (and d_residual, pre-LN), the gradients of forward's result.
  // Leaves in d_branch the gradient of the branch's product. Post-LN leaves the gradient of
  // `in.residual` in d_normalized, where the branch's backward adds its own; pre-LN leaves it in
  // d_residual, and the branch overwrites d_normalized. `is_last`: nothing has reached d_residual.
  void backward(const Context& context, const Saved& saved, BackwardWorkspace& workspace,
                bool is_last) const;

 private:
  const BertConfig& config_;
  Parameter& bias_;
  Parameter& gamma_;
  Parameter& beta_;
  DropoutSite site_;
  int layer_;
};

}  // namespace bert
