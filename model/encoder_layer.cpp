#include "model/encoder_layer.h"

#include "model/hf_names.h"

namespace bert {

EncoderLayer::EncoderLayer(ParameterStore& store, const BertConfig& config, int layer)
    : config_(config),
      attention_(store, config, layer),
      attention_norm_(store, config, attention_.output_bias(), hf::after_attention(config, layer),
                      DropoutSite::attention_output, layer),
      feed_forward_(store, config, layer),
      feed_forward_norm_(store, config, feed_forward_.output_bias(),
                         hf::after_feed_forward(config, layer), DropoutSite::feed_forward, layer) {}

void EncoderLayer::plan(Arena& arena, const Capacity& capacity, const Ops& ops,
                        Saved& saved) const {
  attention_.plan(arena, capacity, ops, saved.attention);
  attention_norm_.plan(arena, capacity, ops, saved.attention_norm);
  feed_forward_.plan(arena, capacity, ops, saved.feed_forward);
  feed_forward_norm_.plan(arena, capacity, ops, saved.feed_forward_norm);
}

void EncoderLayer::plan_output(Arena& arena, const Capacity& capacity, const Ops& ops,
                               Saved& saved) const {
  feed_forward_norm_.plan_output(arena, capacity, ops, saved.feed_forward_norm);
}

Stream EncoderLayer::output(const Saved& saved) const {
  return feed_forward_norm_.output(saved.feed_forward_norm);
}

void EncoderLayer::forward(const Context& context, const Stream& in, Saved& saved) const {
  attention_.forward(context, in.normalized, saved.attention, saved.attention_norm.z);
  const Stream middle = attention_norm_.forward(context, in, saved.attention_norm);
  feed_forward_.forward(context, middle.normalized, saved.feed_forward, saved.feed_forward_norm.z);
  feed_forward_norm_.forward(context, middle, saved.feed_forward_norm);
}

void EncoderLayer::backward(const Context& context, const Saved& saved,
                            BackwardWorkspace& workspace, bool is_last, bool wants_dx) const {
  // Post-LN: the residual's gradient already lies in d_normalized, the branch adds to it.
  const bool accumulate = !config_.pre_layer_norm();
  feed_forward_norm_.backward(context, saved.feed_forward_norm, workspace, is_last);
  feed_forward_.backward(context, saved.feed_forward, workspace, accumulate);
  attention_norm_.backward(context, saved.attention_norm, workspace, false);
  attention_.backward(context, saved.attention, workspace, accumulate, wants_dx);
}

}  // namespace bert
