// EncoderLayer: attention and feed-forward, each closed by a ResidualNorm. The same calls serve
// post-LN and pre-LN; Stream says what differs.
#pragma once

#include "model/feed_forward.h"
#include "model/residual_norm.h"
#include "model/self_attention.h"

namespace bert {

class EncoderLayer {
 public:
  EncoderLayer(ParameterStore& store, const BertConfig& config, int layer);

  struct Saved {
    SelfAttention::Saved attention;
    ResidualNorm::Saved attention_norm;
    FeedForward::Saved feed_forward;
    ResidualNorm::Saved feed_forward_norm;
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;
  // The part of it that holds the layer's output; the rest of `saved` stays as it is.
  void plan_output(Arena& arena, const Capacity& capacity, const Ops& ops, Saved& saved) const;

  void forward(const Context& context, const Stream& in, Saved& saved) const;
  // What forward made.
  Stream output(const Saved& saved) const;
  // Gradients go through the workspace's d_normalized and, pre-LN, d_residual. Without `wants_dx`
  // those of what forward read are left unfinished.
  void backward(const Context& context, const Saved& saved, BackwardWorkspace& workspace,
                bool is_last, bool wants_dx) const;

 private:
  const BertConfig& config_;
  SelfAttention attention_;
  ResidualNorm attention_norm_;
  FeedForward feed_forward_;
  ResidualNorm feed_forward_norm_;
};

}  // namespace bert
