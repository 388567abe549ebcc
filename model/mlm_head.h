// MlmHead: logits over the vocabulary, for masked positions only: gather, dense, activation,
// LayerNorm, then the decoder, whose weight is the word embedding
// (docs/derivations/tied_cross_entropy.md).
#pragma once

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class MlmHead {
 public:
  MlmHead(ParameterStore& store, const BertConfig& config, Parameter& word_embeddings);

  struct Saved {
    Tensor gathered{};        // [M, C]
    Tensor pre_activation{};  // [M, C]
    Tensor activation{};      // [M, C]
    Tensor mean{}, rstd{};    // [M]
    Tensor normalized{};      // [M, C]
    Tensor logits{};          // [M, V and padding]; CrossEntropy turns them into their gradient
    Tensor d_hidden{}, d_gathered{};  // [M, C], scratch of backward
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, bool with_gradients,
            Saved& saved) const;

  // hidden [T, C], masked_rows i32 [M] -> saved.logits.
  void forward(const Context& context, const Tensor& hidden, const Tensor& masked_rows,
               DeviceCount num_masked, Saved& saved) const;
  // saved.logits holds the gradient of the logits; d_hidden [T, C] is added to.
  void backward(const Context& context, const Tensor& masked_rows, DeviceCount num_masked,
                const Saved& saved, const Tensor& d_hidden) const;

 private:
  const BertConfig& config_;
  Parameter& word_embeddings_;
  Parameter& dense_weight_;
  Parameter& dense_bias_;
  Parameter& gamma_;
  Parameter& beta_;
  Parameter& decoder_bias_;
};

}  // namespace bert
