// Hugging Face's names of the parameters, for BertForPreTraining (post-LN) and
// MegatronBertForPreTraining (pre-LN).
#pragma once

#include <string>
#include <vector>

#include <fmt/format.h>

#include "model/bert_config.h"

namespace bert::hf {

inline std::vector<std::string> embedding(const std::string& table) {
  return {"bert.embeddings." + table + "_embeddings.weight"};
}
inline std::string layer(int index) { return fmt::format("bert.encoder.layer.{}.", index); }

// A LayerNorm's name without ".weight" or ".bias". Post-LN has one after the embeddings and one
// after each branch; pre-LN one before each branch and one at the end.
inline std::string embeddings_layer_norm() { return "bert.embeddings.LayerNorm"; }
inline std::string attention_output_layer_norm(int index) {
  return layer(index) + "attention.output.LayerNorm";
}
inline std::string output_layer_norm(int index) { return layer(index) + "output.LayerNorm"; }
inline std::string pre_attention_layer_norm(int index) { return layer(index) + "attention.ln"; }
inline std::string pre_feed_forward_layer_norm(int index) { return layer(index) + "ln"; }
inline std::string final_layer_norm() { return "bert.encoder.ln"; }

// The LayerNorm that follows layer `index`'s attention, and the one that follows its feed-forward.
inline std::string after_attention(const BertConfig& config, int index) {
  return config.pre_layer_norm() ? pre_feed_forward_layer_norm(index)
                                 : attention_output_layer_norm(index);
}
inline std::string after_feed_forward(const BertConfig& config, int index) {
  if (!config.pre_layer_norm()) return output_layer_norm(index);
  return index + 1 < config.num_hidden_layers ? pre_attention_layer_norm(index + 1)
                                              : final_layer_norm();
}

}  // namespace bert::hf
