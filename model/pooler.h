// Pooler: tanh(W x[CLS] + b), the first token of each sequence.
#pragma once

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class Pooler {
 public:
  Pooler(ParameterStore& store, const BertConfig& config);

  struct Saved {
    Tensor first{};           // [B, C], the [CLS] rows
    Tensor pre_activation{};  // [B, C]
    Tensor y{};               // [B, C]
    Tensor d_first{};         // [B, C], scratch of backward
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;

  // hidden [T, C] -> [B, C].
  Tensor forward(const Context& context, const Tensor& hidden, Saved& saved) const;
  // dy [B, C] is overwritten; d_hidden [T, C] is added to.
  void backward(const Context& context, const Saved& saved, const Tensor& dy,
                const Tensor& d_hidden) const;

 private:
  Tensor first_rows(const Context& context) const;

  const BertConfig& config_;
  Parameter& weight_;  // [C, C]
  Parameter& bias_;
};

}  // namespace bert
