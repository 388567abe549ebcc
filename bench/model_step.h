// ModelStep: one whole step of a pre-training model on made-up tokens. In training: forward,
// backward, gradient norm, AdamW, as `train` computes them for one micro-batch, without its data,
// files and reports. In inference: forward up to the logits of the masked tokens, as `fill_mask`
// does, without dropout and without memory for anything else.
#pragma once

#include <cstdint>

#include "bench/bench_support.h"
#include "model/bert_for_pretraining.h"

namespace bert::bench {

enum class StepKind { training, inference };

class ModelStep {
 public:
  // `masked` of the tokens, evenly spaced, own a loss. Weights are made up too: uniform, of the
  // standard deviation that training begins with.
  ModelStep(StepKind kind, const BertConfig& config, BertForPretraining::Heads heads, Ops& ops,
            Device& device, const Lengths& lengths, std::int64_t masked);

  // Queues it: the same work on the same memory each time.
  void run();
  // Mean loss of the last training step's masked tokens; waits for it.
  double loss() const;
  // What a step cannot do without: forward's products and attention, in training three times, the
  // MLM head on masked positions only; a sequence's attention goes by the square of its length.
  double necessary_flop() const;
  std::size_t activation_bytes() const { return model_.activation_bytes(); }
  // Parameters, gradients and moments (in training) and, where there are any, copies in the compute
  // dtype.
  std::size_t parameter_bytes() const;
  std::int64_t num_parameters() const { return model_.parameters().num_parameters(); }
  std::int64_t num_tokens() const { return model_.capacity().tokens; }

 private:
  void fill_weights();
  void update();

  const StepKind kind_;
  Ops& ops_;
  Device& device_;
  Memory memory_;
  BertForPretraining model_;
  double squared_lengths_ = 0.0;  // summed over sequences
  ModelInput input_;
  ModelLoss* loss_;
  DropoutKey* dropout_key_;
  Tensor m_, v_;
  GradientNorm* norm_;
  AdamWStep* adamw_step_;
};

}  // namespace bert::bench
