// A model of a few hundred parameters, for the files that models are read from.
#pragma once

#include <memory>

#include "kernels/reference/reference_ops.h"
#include "model/bert_for_pretraining.h"
#include "runtime/device.h"

namespace bert::fuzz {

inline BertConfig small_config() {
  BertConfig config = bert_preset("bert_tiny");
  config.vocab_size = 7;
  config.hidden_size = 2;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 1;
  config.intermediate_size = 3;
  config.max_position_embeddings = 8;
  return config;
}

struct SmallModel {
  std::unique_ptr<Device> device = make_cpu_device();
  std::unique_ptr<Ops> ops = make_reference_ops(DType::f64);
  BertForPretraining model{small_config(), BertForPretraining::Heads::mlm_and_nsp};

  SmallModel() {
    model.allocate(*device, *ops, {.tokens = 8, .sequences = 1, .masked = 2, .max_seqlen = 8},
                   false);
    model.parameters().initialize(small_config(), 0);
  }
};

}  // namespace bert::fuzz
