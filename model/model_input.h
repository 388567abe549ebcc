// What a model is given of a micro-batch, and what becomes of its loss; device memory.
#pragma once

#include "kernels/ops.h"

namespace bert {

// A micro-batch of T tokens in B sequences. What its model does not need is absent.
struct ModelInput {
  Tensor input_ids{}, token_type_ids{};  // i32 [T]
  PackedTokens tokens{};
  // The token rows that own a loss, and what is to be found there: masked tokens and what they
  // were; in token classification the first piece of each word, and its label.
  Tensor masked_rows{}, masked_targets{};  // i32 [M]
  DeviceCount num_masked = nullptr;
  Tensor sequence_labels{};  // i32 [B]; the class, or whether the next sentence is a random one
  Tensor sequence_values{};  // statistics dtype [B]; regression
  Tensor answer_spans{};     // i32 [2 B]; first and last row of the answer, within its sequence
  Tensor loss_weights{};     // statistics dtype [B], or [M] in token classification; of classes
};

// Which of the optional parts a model reads.
struct InputParts {
  bool sequence_labels = false, sequence_values = false, answer_spans = false;
  bool sequence_weights = false, row_weights = false;
};

// Sums over micro-batches, and what the gradient of each sum is multiplied by; device memory.
struct ModelLoss {
  LossSums main, nsp;       // of the masked tokens or the task; of next-sentence prediction
  double main_scale = 0.0;  // 1 / masked tokens, or the task's, of the whole optimizer step; or 0
  double nsp_scale = 0.0;   // 1 / sequences of the whole optimizer step
};

}  // namespace bert
