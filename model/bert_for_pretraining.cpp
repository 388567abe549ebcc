#include "model/bert_for_pretraining.h"

namespace bert {

BertForPretraining::BertForPretraining(const BertConfig& config, Heads heads)
    : config_(config),
      heads_(heads),
      embeddings_(store_, config_),
      encoder_(store_, config_),
      pooler_(has_nsp() ? std::make_unique<Pooler>(store_, config_) : nullptr),
      mlm_head_(store_, config_, embeddings_.word()),
      nsp_head_(has_nsp() ? std::make_unique<NspHead>(store_, config_) : nullptr) {}

void BertForPretraining::allocate(Device& device, Ops& ops, const Capacity& capacity,
                                  bool with_gradients, bool recompute) {
  ops_ = &ops;
  capacity_ = capacity;
  store_.allocate(device, ops.statistics_dtype(), ops.dtype(), with_gradients);
  arena_.build(device,
               [&](Arena& arena) { plan(arena, ops, capacity, with_gradients, recompute); });
}

std::size_t BertForPretraining::count_activation_bytes(Ops& ops, const Capacity& capacity,
                                                       bool with_gradients, bool recompute) {
  BERT_CHECK(ops_ == nullptr, "the model has its memory already");
  Arena counted;
  plan(counted, ops, capacity, with_gradients, recompute);
  return counted.bytes();
}

void BertForPretraining::plan(Arena& arena, Ops& ops, const Capacity& capacity, bool with_gradients,
                              bool recompute) {
  embeddings_.plan(arena, capacity, ops, saved_.embeddings);
  encoder_.plan(arena, capacity, ops, recompute || !with_gradients, saved_.encoder);
  mlm_head_.plan(arena, capacity, ops, with_gradients, saved_.mlm);
  if (has_nsp()) {
    pooler_->plan(arena, capacity, ops, saved_.pooler);
    nsp_head_->plan(arena, capacity, ops, saved_.nsp);
  }
  if (with_gradients) encoder_.plan_backward(arena, capacity, ops, workspace_);
}

void BertForPretraining::forward(const PretrainingInput& input, const DropoutKey* dropout_key) {
  dropout_key_ = dropout_key;
  const Context context = this->context(input);
  const Tensor x =
      embeddings_.forward(context, input.input_ids, input.token_type_ids, saved_.embeddings);
  saved_.hidden = encoder_.forward(context, x, saved_.encoder);
  mlm_head_.forward(context, saved_.hidden, input.masked_rows, input.num_masked, saved_.mlm);
  if (has_nsp()) {
    nsp_head_->forward(context, pooler_->forward(context, saved_.hidden, saved_.pooler),
                       saved_.nsp);
  }
}

void BertForPretraining::loss(const PretrainingInput& input, PretrainingLoss* loss,
                              bool with_gradients, double loss_unit) {
  ops_->cross_entropy({.logits = saved_.mlm.logits,
                       .classes = config_.vocab_size,
                       .targets = input.masked_targets,
                       .rows = input.num_masked,
                       .loss_scale = with_gradients ? &loss->mlm_scale : nullptr,
                       .sums = &loss->mlm,
                       .loss_unit = loss_unit});
  if (has_nsp()) {
    ops_->cross_entropy({.logits = saved_.nsp.logits,
                         .classes = 2,
                         .targets = input.nsp_labels,
                         .rows = input.tokens.num_sequences,
                         .loss_scale = with_gradients ? &loss->nsp_scale : nullptr,
                         .sums = &loss->nsp,
                         .loss_unit = loss_unit});
  }
}

void BertForPretraining::backward(const PretrainingInput& input, const GradientsReady& ready) {
  const Context context = this->context(input);
  const Tensor& d_hidden = workspace_.d_normalized;
  ops_->zero(d_hidden);
  mlm_head_.backward(context, input.masked_rows, input.num_masked, saved_.mlm, d_hidden);
  if (has_nsp()) {
    pooler_->backward(context, saved_.pooler, nsp_head_->backward(context, saved_.nsp), d_hidden);
  }
  if (ready) ready(encoder_.layers_end(), store_.flat_size());
  const Tensor dx = encoder_.backward(context, saved_.encoder, workspace_, ready);
  embeddings_.backward(context, input.input_ids, input.token_type_ids, saved_.embeddings, dx);
  if (ready) ready(0, encoder_.layers_begin());
}

std::vector<Tensor> BertForPretraining::hidden_states() const {
  std::vector<Tensor> states{saved_.embeddings.y};
  const std::size_t layers = saved_.encoder.layers.size();
  for (std::size_t i = 0; i < layers; ++i) {
    // Pre-LN: the residual stream between layers, the normalised output after the last.
    const ResidualNorm::Saved& end = saved_.encoder.layers[i].feed_forward_norm;
    states.push_back(config_.pre_layer_norm() && i + 1 < layers ? end.z : end.y);
  }
  return states;
}

}  // namespace bert
