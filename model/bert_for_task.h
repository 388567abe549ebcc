// BertForTask: a BertModel with the head of a fine-tuning task (Devlin et al. 2019, section 4).
//
//   classification, regression   a linear layer on the pooled [CLS], after dropout
//   token_classification         a linear layer on the first piece of each word, after dropout
//   question_answering           a linear layer with two outputs on every token: does the answer
//                                begin, does it end here
#pragma once

#include <string>
#include <vector>

#include "model/bert_model.h"
#include "model/linear_head.h"
#include "model/task_kind.h"

namespace bert {

class BertForTask : public BertModel {
 public:
  // `labels`: the names of the outputs of (token) classification; regression has one output and
  // question answering two, without names. With `weighted`, the losses of (token) classification
  // are multiplied by ModelInput::loss_weights.
  BertForTask(const BertConfig& config, TaskKind kind, std::vector<std::string> labels,
              bool weighted = false);

  void loss(const ModelInput& input, ModelLoss* loss, bool with_gradients,
            double loss_unit = 0.0) override;

  // What the last forward left; before loss(), which makes gradients of it. [B, outputs], in token
  // classification [M, outputs], in question answering [T, 2].
  const Tensor& logits() const { return saved_.logits; }

  TaskKind kind() const { return kind_; }
  std::int64_t num_outputs() const { return head_.outputs(); }
  HeadDescription head_description() const override;
  InputParts input_parts() const override;

 protected:
  void plan_heads(Arena& arena, const Capacity& capacity, const Ops& ops,
                  bool with_gradients) override;
  void forward_heads(const Context& context, const ModelInput& input) override;
  void backward_heads(const Context& context, const ModelInput& input,
                      const Tensor& d_hidden) override;

 private:
  // Of x, and again of its gradient: the rows of `input` that the head reads.
  void dropout(const Context& context, const ModelInput& input, const Tensor& x) const;

  const TaskKind kind_;
  const std::vector<std::string> labels_;
  const bool weighted_;
  LinearHead head_;

  LinearHead::Saved saved_;
  Tensor gathered_{};  // [M, C], token classification
  Tensor dx_{};        // [B, C] or [M, C]
};

}  // namespace bert
