#include "model/bert_model.h"

#include "runtime/error.h"

namespace bert {

BertModel::BertModel(const BertConfig& config, bool with_pooler)
    : config_(config),
      embeddings_(store_, config_),
      encoder_(store_, config_),
      pooler_(with_pooler ? std::make_unique<Pooler>(store_, config_) : nullptr) {}

void BertModel::allocate(Device& device, Ops& ops, const Capacity& capacity, bool with_gradients,
                         bool recompute) {
  ops_ = &ops;
  capacity_ = laid_out_ = capacity;
  with_gradients_ = with_gradients;
  recompute_ = recompute;
  store_.allocate(device, ops.statistics_dtype(), ops.dtype(), with_gradients);
  arena_.build(device,
               [&](Arena& arena) { plan(arena, ops, capacity, with_gradients, recompute); });
  activation_bytes_ = arena_.bytes();
}

std::size_t BertModel::count_activation_bytes(Ops& ops, const Capacity& capacity,
                                              bool with_gradients, bool recompute) {
  BERT_CHECK(ops_ == nullptr, "the model has its memory already");
  Arena counted;
  plan(counted, ops, capacity, with_gradients, recompute);
  return counted.bytes();
}

void BertModel::plan(Arena& arena, Ops& ops, const Capacity& capacity, bool with_gradients,
                     bool recompute) {
  embeddings_.plan(arena, capacity, ops, saved_.embeddings);
  encoder_.plan(arena, capacity, ops, recompute || !with_gradients, saved_.encoder);
  if (pooler_) pooler_->plan(arena, capacity, ops, saved_.pooler);
  plan_heads(arena, capacity, ops, with_gradients);
  if (with_gradients) encoder_.plan_backward(arena, capacity, ops, workspace_);
}

void BertModel::fit(const ModelInput& input) {
  Capacity wanted = laid_out_;
  wanted.tokens = input.input_ids.numel();
  wanted.sequences = input.tokens.sequence_index.numel();
  if (input.masked_rows) wanted.masked = input.masked_rows.numel();
  if (wanted == laid_out_) return;
  BERT_CHECK(wanted.tokens <= capacity_.tokens && wanted.sequences <= capacity_.sequences &&
                 wanted.masked <= capacity_.masked,
             "{} tokens, {} sequences, {} masked in room for {}, {}, {}", wanted.tokens,
             wanted.sequences, wanted.masked, capacity_.tokens, capacity_.sequences,
             capacity_.masked);
  laid_out_ = wanted;
  arena_.rebuild([&](Arena& arena) { plan(arena, *ops_, wanted, with_gradients_, recompute_); });
}

void BertModel::freeze(std::int64_t layers) {
  BERT_CHECK(layers >= 0 && layers <= config_.num_hidden_layers, "{} layers", layers);
  frozen_layers_ = layers;
}

std::int64_t BertModel::first_trained() const {
  return frozen_layers_ ? encoder_.layer_begin(*frozen_layers_) : 0;
}

void BertModel::forward(const ModelInput& input, const DropoutKey* dropout_key) {
  fit(input);
  dropout_key_ = dropout_key;
  const Context context = this->context(input);
  const Tensor x =
      embeddings_.forward(context, input.input_ids, input.token_type_ids, saved_.embeddings);
  hidden_ = encoder_.forward(context, x, saved_.encoder);
  forward_heads(context, input);
}

void BertModel::backward(const ModelInput& input, const GradientsReady& ready) {
  const Context context = this->context(input);
  const Tensor& d_hidden = workspace_.d_normalized;
  ops_->zero(d_hidden);
  backward_heads(context, input, d_hidden);
  if (ready) ready(encoder_.layers_end(), store_.flat_size());
  if (frozen_layers_) {
    encoder_.backward_down_to(*frozen_layers_, context, saved_.encoder, workspace_, ready);
    return;
  }
  const Tensor dx = encoder_.backward(context, saved_.encoder, workspace_, ready);
  embeddings_.backward(context, input.input_ids, input.token_type_ids, saved_.embeddings, dx);
  if (ready) ready(0, encoder_.layers_begin());
}

std::vector<Tensor> BertModel::hidden_states() const {
  std::vector<Tensor> states{saved_.embeddings.y};
  const std::size_t layers = saved_.encoder.layers.size();
  for (std::size_t i = 0; i < layers; ++i) {
    // Pre-LN: the residual stream between layers, the normalised output after the last.
    const ResidualNorm::Saved& end = saved_.encoder.layers[i].feed_forward_norm;
    states.push_back(config_.pre_layer_norm() && i + 1 < layers ? end.z : end.y);
  }
  return states;
}

std::vector<std::int64_t> BertModel::part_ends() const {
  std::vector<std::int64_t> ends;
  for (std::int64_t i = 0; i <= config_.num_hidden_layers; ++i) {
    ends.push_back(encoder_.layer_begin(i));
  }
  ends.push_back(store_.flat_size());
  return ends;
}

Tensor BertModel::pool(const Context& context) {
  return pooler_->forward(context, hidden_, saved_.pooler);
}

void BertModel::pool_backward(const Context& context, const Tensor& dy, const Tensor& d_hidden) {
  pooler_->backward(context, saved_.pooler, dy, d_hidden);
}

// --- Without heads ------------------------------------------------------------------------------
void BertModel::plan_heads(Arena&, const Capacity&, const Ops&, bool) {}

void BertModel::forward_heads(const Context& context, const ModelInput&) {
  if (pooler_) pool(context);
}

void BertModel::loss(const ModelInput&, ModelLoss*, bool, double) {
  throw_runtime_error("a model without a head has no loss");
}

void BertModel::backward_heads(const Context&, const ModelInput&, const Tensor&) {
  throw_runtime_error("a model without a head has no gradients");
}

}  // namespace bert
