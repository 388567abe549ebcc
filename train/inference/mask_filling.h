// What a model puts where a text is masked, and how that is shown. What fill_mask, the library and
// the trainer's example predictions share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/samples/batch.h"
#include "data/tokenization/tokenizer.h"
#include "model/bert_for_pretraining.h"
#include "train/step/device_batch.h"
#include "train/tasks/task.h"

namespace bert {

struct TokenPrediction {
  std::int32_t id = 0;
  double probability = 0.0;
};

// The `top_k` likeliest tokens at each masked row of `batch`, [M][top_k], likeliest first, no
// dropout. `model` and `memory` must have room for the batch.
std::vector<std::vector<TokenPrediction>> predict_masked(BertForPretraining& model, Device& device,
                                                         DeviceBatch& memory, const Batch& batch,
                                                         int top_k);

// [CLS] text [SEP], of which every [MASK] is one of its `rows` (whose label is [MASK] itself).
// InputError when it is longer than `max_length` or holds no [MASK].
TaskSequence sequence_with_masks(const Tokenizer& tokenizer, const std::string& text,
                                 std::int64_t max_length);

// A vocabulary entry on its own: "that", and "##ing" for a piece that continues a word.
std::string show_piece(const Tokenizer& tokenizer, std::int32_t id);

// A batch as text, each masked token replaced by its likeliest prediction with its share:
// "a protein that[97.6%] in[98.6%] humans". What is predicted stands between spaces, a mark that
// ends a sentence and the pieces of a word too.
std::string show_predictions(const Tokenizer& tokenizer, const Batch& batch,
                             const std::vector<std::vector<TokenPrediction>>& predictions,
                             std::int64_t sequence);
// The text as the model saw it ([MASK] and replaced tokens), and as it was.
std::string show_masked(const Tokenizer& tokenizer, const Batch& batch, std::int64_t sequence);
std::string show_original(const Tokenizer& tokenizer, const Batch& batch, std::int64_t sequence);

}  // namespace bert
