// Model FLOP utilisation: what a training step cannot do without, as a part of what the device
// could do in the same time (Chowdhery et al., PaLM, 2022, appendix B).
#pragma once

#include <optional>
#include <string>

#include "model/bert_config.h"

namespace bert {

// Three times forward's products and attention, the MLM head on masked positions only; a sequence's
// attention goes by the square of its length. Nothing for what is computed again
// (train.recompute), for LayerNorms, the update, the pooler and next sentences.
// `squared_lengths`: summed over the sequences.
double necessary_flop(const BertConfig& config, double tokens, double squared_lengths,
                      double masked);

// By datasheet, without sparsity, for a precision of runtime.precision; nothing where the device
// (Device::name) is not one of those in the table.
std::optional<double> peak_flop_per_second(const std::string& device, const std::string& precision);

}  // namespace bert
