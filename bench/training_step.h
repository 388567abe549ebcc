// TrainingStep: one whole optimizer step of masked-token pre-training on made-up tokens: forward,
// backward, gradient norm, AdamW. What `train` computes for one micro-batch, without its data,
// files and reports.
#pragma once

#include <memory>

#include "bench/bench_support.h"
#include "model/embeddings.h"
#include "model/encoder.h"
#include "model/parameter.h"
#include "runtime/arena.h"

namespace bert::bench {

class TrainingStep {
 public:
  // `masked` of the tokens, evenly spaced, own a loss.
  TrainingStep(const BertConfig& config, Ops& ops, Device& device, std::int64_t sequences,
               std::int64_t length, std::int64_t masked);

  void run();
  // Mean loss of the last step's masked tokens.
  double loss() const;
  std::int64_t num_parameters() const { return store_.num_parameters(); }
  std::int64_t num_tokens() const { return tokens_; }

 private:
  struct Head {
    Parameter *weight, *bias, *gamma, *beta, *decoder_bias;
    Tensor x, pre_activation, activation, normalized, mean, rstd, logits;  // [M, ...]
    Tensor d_normalized, d_activation, d_x;
  };
  void plan(Arena& arena);
  void head_forward(const Tensor& hidden);
  void head_backward();
  void update();

  BertConfig config_;
  Ops& ops_;
  Memory memory_;
  std::int64_t tokens_, masked_;
  ParameterStore store_;
  Embeddings embeddings_;
  Encoder encoder_;
  Head head_{};
  Context context_;
  Capacity capacity_;
  Arena arena_;
  Embeddings::Saved saved_embeddings_;
  Encoder::Saved saved_encoder_;
  BackwardWorkspace workspace_;
  Tensor input_ids_, token_type_ids_, masked_rows_, targets_, m_, v_;
  DeviceCount masked_count_;
  double* loss_scale_;
  LossSums* sums_;
  GradientNorm* norm_;
  AdamWStep* adamw_step_;
};

}  // namespace bert::bench
