// Encoder: the stack of layers. Pre-LN normalises the embeddings' sum before the first branch.
#pragma once

#include <memory>
#include <vector>

#include "model/encoder_layer.h"

namespace bert {

class Encoder {
 public:
  Encoder(ParameterStore& store, const BertConfig& config);

  struct Saved {
    Tensor x{};                           // [T, C], the embeddings' output
    Tensor first_norm{}, mean{}, rstd{};  // [T, C], [T], [T]; pre-LN only
    std::vector<EncoderLayer::Saved> layers{};
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;
  void plan_backward(Arena& arena, const Capacity& capacity, const Ops& ops,
                     BackwardWorkspace& workspace) const;

  // x [T, C] -> the last layer's normalised output [T, C].
  Tensor forward(const Context& context, const Tensor& x, Saved& saved) const;
  // From workspace.d_normalized, the gradient of forward's result; returns that of x, a tensor of
  // the workspace.
  Tensor backward(const Context& context, const Saved& saved, BackwardWorkspace& workspace) const;

 private:
  const BertConfig& config_;
  Parameter* first_gamma_ = nullptr;  // pre-LN only
  Parameter* first_beta_ = nullptr;
  std::vector<std::unique_ptr<EncoderLayer>> layers_;
};

}  // namespace bert
