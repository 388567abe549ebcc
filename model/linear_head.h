// LinearHead: y = W x + b, one row of outputs for each row of hidden states: which class, which
// label, is it the next sentence, does the answer begin or end here.
#pragma once

#include <string>

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class LinearHead {
 public:
  // `name`: Hugging Face's, without ".weight" and ".bias".
  LinearHead(ParameterStore& store, const BertConfig& config, const std::string& name,
             std::int64_t outputs);

  struct Saved {
    Tensor x{};       // [R, C], the caller's memory
    Tensor logits{};  // [R, outputs]; the loss turns them into their gradient
  };
  // `rows`: the capacity R.
  void plan(Arena& arena, std::int64_t rows, const Ops& ops, Saved& saved) const;

  // x [R, C] -> saved.logits.
  void forward(const Context& context, const Tensor& x, DeviceCount rows, Saved& saved) const;
  // saved.logits holds the gradient of the logits; dx [R, C] is overwritten.
  void backward(const Context& context, DeviceCount rows, const Saved& saved,
                const Tensor& dx) const;

  std::int64_t outputs() const { return weight_.shape[0]; }

 private:
  Parameter& weight_;  // [outputs, C]
  Parameter& bias_;
};

}  // namespace bert
