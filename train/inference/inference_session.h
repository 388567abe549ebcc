// InferenceSession: a checkpoint opened for use: model, tokenizer, backend and the memory of one
// micro-batch. What the programs that use a model and the library share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "data/tokenization/tokenizer.h"
#include "model/bert_for_pretraining.h"
#include "model/bert_for_task.h"
#include "train/step/backend.h"
#include "train/step/device_batch.h"

namespace bert {

// Room for micro-batches of up to `batch_tokens` (0: good_batch_tokens) in sequences of up to
// `longest`, one of which always fits. An eighth of the tokens may be masked: each costs a row of
// logits over the vocabulary.
Capacity inference_capacity(const Device& device, std::int64_t longest, std::int64_t batch_tokens);

class InferenceSession {
 public:
  // `checkpoint`: a folder with config.json, weights and tokenizer files. Makes room for
  // micro-batches of up to `capacity`. InputError naming what is missing, damaged or does not fit.
  InferenceSession(const std::filesystem::path& checkpoint, Backend backend,
                   const Capacity& capacity);
  // The same with another model than the checkpoint is of: one without its heads.
  InferenceSession(const std::filesystem::path& checkpoint, std::unique_ptr<BertModel> model,
                   Backend backend, const Capacity& capacity);

  BertModel& model() { return *model_; }
  // The model as one for masked tokens or for a task. InputError saying what it is where it is
  // another.
  BertForPretraining& masked_model();
  BertForTask& task_model();

  const std::filesystem::path& checkpoint() const { return checkpoint_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const Backend& backend() const { return backend_; }
  Device& device() { return *backend_.device; }
  DeviceBatch& memory() { return *memory_; }

 private:
  std::filesystem::path checkpoint_;
  Backend backend_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<BertModel> model_;
  std::unique_ptr<DeviceBatch> memory_;
};

}  // namespace bert
