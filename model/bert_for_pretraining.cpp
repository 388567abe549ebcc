#include "model/bert_for_pretraining.h"

namespace bert {

BertForPretraining::BertForPretraining(const BertConfig& config, Heads heads)
    : BertModel(config, heads == Heads::mlm_and_nsp),
      mlm_head_(store_, config_, word_embeddings()) {
  if (has_pooler()) nsp_head_.emplace(store_, config_, "cls.seq_relationship", 2);
}

void BertForPretraining::plan_heads(Arena& arena, const Capacity& capacity, const Ops& ops,
                                    bool with_gradients) {
  mlm_head_.plan(arena, capacity, ops, with_gradients, mlm_);
  if (!nsp_head_) return;
  nsp_head_->plan(arena, capacity.sequences, ops, nsp_);
  if (with_gradients) {
    d_pooled_ = arena.take(ops.dtype(), {capacity.sequences, config_.hidden_size});
  }
}

void BertForPretraining::forward_heads(const Context& context, const ModelInput& input) {
  mlm_head_.forward(context, hidden(), input.masked_rows, input.num_masked, mlm_);
  if (nsp_head_) {
    nsp_head_->forward(context, pool(context), context.tokens.num_sequences, nsp_);
  }
}

void BertForPretraining::loss(const ModelInput& input, ModelLoss* loss, bool with_gradients,
                              double loss_unit) {
  ops().cross_entropy({.logits = mlm_.logits,
                       .classes = config_.vocab_size,
                       .targets = input.masked_targets,
                       .rows = input.num_masked,
                       .loss_scale = with_gradients ? &loss->main_scale : nullptr,
                       .sums = &loss->main,
                       .loss_unit = loss_unit});
  if (nsp_head_) {
    ops().cross_entropy({.logits = nsp_.logits,
                         .classes = 2,
                         .targets = input.sequence_labels,
                         .rows = input.tokens.num_sequences,
                         .loss_scale = with_gradients ? &loss->nsp_scale : nullptr,
                         .sums = &loss->nsp,
                         .loss_unit = loss_unit});
  }
}

void BertForPretraining::backward_heads(const Context& context, const ModelInput& input,
                                        const Tensor& d_hidden) {
  mlm_head_.backward(context, input.masked_rows, input.num_masked, mlm_, d_hidden);
  if (nsp_head_) {
    nsp_head_->backward(context, context.tokens.num_sequences, nsp_, d_pooled_);
    pool_backward(context, d_pooled_, d_hidden);
  }
}

}  // namespace bert
