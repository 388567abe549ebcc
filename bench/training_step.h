// TrainingStep: one whole optimizer step of pre-training on made-up tokens: forward, backward,
// gradient norm, AdamW. What `train` computes for one micro-batch, without its data, files and
// reports.
#pragma once

#include <cstdint>

#include "bench/bench_support.h"
#include "model/bert_for_pretraining.h"

namespace bert::bench {

class TrainingStep {
 public:
  // `masked` of the tokens, evenly spaced, own a loss. Weights are made up too: uniform, of the
  // standard deviation that training begins with.
  TrainingStep(const BertConfig& config, BertForPretraining::Heads heads, Ops& ops, Device& device,
               const Lengths& lengths, std::int64_t masked);

  // Queues it: the same work on the same memory each time.
  void run();
  // Mean loss of the last step's masked tokens; waits for it.
  double loss() const;
  // What a step cannot do without: three times forward's products and attention, the MLM head on
  // masked positions only; a sequence's attention goes by the square of its length.
  double necessary_flop() const;
  std::size_t activation_bytes() const { return model_.activation_bytes(); }
  // Parameters, gradients, moments and, where there are any, copies in the compute dtype.
  std::size_t parameter_bytes() const;
  std::int64_t num_parameters() const { return model_.parameters().num_parameters(); }
  std::int64_t num_tokens() const { return model_.capacity().tokens; }

 private:
  void fill_weights();
  void update();

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
