// BertForPretraining: a BertModel with the masked-token head and, if asked for, the next-sentence
// head.
#pragma once

#include <optional>

#include "model/bert_model.h"
#include "model/linear_head.h"
#include "model/mlm_head.h"

namespace bert {

class BertForPretraining : public BertModel {
 public:
  enum class Heads { mlm, mlm_and_nsp };

  BertForPretraining(const BertConfig& config, Heads heads);

  void loss(const ModelInput& input, ModelLoss* loss, bool with_gradients,
            double loss_unit = 0.0) override;

  // What the last forward left; before loss(), which makes gradients of them.
  const Tensor& mlm_logits() const { return mlm_.logits; }  // [M, V and padding]
  // [B, 2]: is the second segment the next one (0) or a random one (1).
  const Tensor& nsp_logits() const { return nsp_.logits; }

  HeadDescription head_description() const override {
    return {.architecture = nsp_head_ ? "ForPreTraining" : "ForMaskedLM"};
  }
  InputParts input_parts() const override { return {.sequence_labels = has_nsp()}; }
  bool has_nsp() const override { return nsp_head_.has_value(); }

 protected:
  void plan_heads(Arena& arena, const Capacity& capacity, const Ops& ops,
                  bool with_gradients) override;
  void forward_heads(const Context& context, const ModelInput& input) override;
  void backward_heads(const Context& context, const ModelInput& input,
                      const Tensor& d_hidden) override;

 private:
  MlmHead mlm_head_;
  std::optional<LinearHead> nsp_head_;

  MlmHead::Saved mlm_;
  LinearHead::Saved nsp_;
  Tensor d_pooled_;  // [B, C]
};

}  // namespace bert
