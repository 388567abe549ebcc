// InferenceSession: a checkpoint opened for use: model, tokenizer, and the memory of one
// micro-batch. What fill_mask, evaluate and the trainer's example predictions share.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/tokenizer.h"
#include "model/bert_for_pretraining.h"
#include "train/backend.h"
#include "train/device_batch.h"

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

// One sequence [CLS] text [SEP] of which every [MASK] is a masked row (its target is [MASK]
// itself). InputError when it is longer than `max_length` or holds no [MASK].
Batch batch_with_masks(const Tokenizer& tokenizer, const std::string& text,
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

class InferenceSession {
 public:
  // `checkpoint`: a folder with config.json, weights and tokenizer files.
  // Makes room for micro-batches of up to `capacity`.
  InferenceSession(const std::filesystem::path& checkpoint, Backend backend,
                   const Capacity& capacity);

  BertForPretraining& model() { return *model_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  Backend& backend() { return backend_; }
  DeviceBatch& memory() { return *memory_; }
  std::vector<std::vector<TokenPrediction>> predict(const Batch& batch, int top_k) {
    return predict_masked(*model_, *backend_.device, *memory_, batch, top_k);
  }

 private:
  Backend backend_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<BertForPretraining> model_;
  std::unique_ptr<DeviceBatch> memory_;
};

}  // namespace bert
