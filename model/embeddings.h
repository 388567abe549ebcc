// Embeddings: word + position + token type, LayerNorm (post-LN only), dropout.
#pragma once

#include "model/context.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert {

class Embeddings {
 public:
  Embeddings(ParameterStore& store, const BertConfig& config);

  struct Saved {
    Tensor mean{}, rstd{};  // [T]; post-LN only
    Tensor y{};             // [T, C]
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;

  // input_ids, token_type_ids: i32 [T].
  Tensor forward(const Context& context, const Tensor& input_ids, const Tensor& token_type_ids,
                 Saved& saved) const;
  // dy [T, C] is overwritten.
  void backward(const Context& context, const Tensor& input_ids, const Tensor& token_type_ids,
                const Saved& saved, const Tensor& dy) const;

  Parameter& word() const { return word_; }  // tied to the decoder of the masked-token head

 private:
  const BertConfig& config_;
  Parameter& word_;
  Parameter& position_;
  Parameter& type_;
  Parameter* gamma_ = nullptr;  // post-LN only
  Parameter* beta_ = nullptr;
};

}  // namespace bert
