#include "train/inference/inference_session.h"

#include <algorithm>
#include <string>

#include "model/model_files.h"
#include "runtime/error.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

// "a model for classification"
std::string what_is(const BertModel& model) {
  if (const auto* const task = dynamic_cast<const BertForTask*>(&model)) {
    return fmt::format("a model for {}", task_kind_name(task->kind()));
  }
  if (dynamic_cast<const BertForPretraining*>(&model) != nullptr) {
    return "a pre-trained model, with a head for masked tokens";
  }
  return "a model without a head";
}

}  // namespace

Capacity inference_capacity(const Device& device, std::int64_t longest, std::int64_t batch_tokens) {
  constexpr std::int64_t kShare = 8;
  const std::int64_t tokens =
      std::max(longest, batch_tokens == 0 ? good_batch_tokens(device) : batch_tokens);
  return {.tokens = tokens,
          .sequences = std::max<std::int64_t>(1, tokens / kShare),
          .masked = std::max(longest, tokens / kShare),
          .max_seqlen = longest};
}

InferenceSession::InferenceSession(const fs::path& checkpoint, Backend backend,
                                   const Capacity& capacity)
    : InferenceSession(checkpoint, make_model(describe_model(checkpoint)), std::move(backend),
                       capacity) {}

InferenceSession::InferenceSession(const fs::path& checkpoint, std::unique_ptr<BertModel> model,
                                   Backend backend, const Capacity& capacity)
    : checkpoint_(checkpoint), backend_(std::move(backend)), model_(std::move(model)) {
  verify_model_files(checkpoint);
  tokenizer_ = load_tokenizer(checkpoint);
  if (tokenizer_->vocab_size() > model_->config().vocab_size) {
    throw_input_error("{}: its tokenizer has {} entries, its model only {}", checkpoint.string(),
                      tokenizer_->vocab_size(), model_->config().vocab_size);
  }
  model_->allocate(*backend_.device, *backend_.ops, capacity, /*with_gradients=*/false);
  load_parameters(*open_weights(checkpoint), model_->parameters());
  memory_ = std::make_unique<DeviceBatch>(*backend_.device, *backend_.ops, capacity, *model_);
}

BertForPretraining& InferenceSession::masked_model() {
  auto* const model = dynamic_cast<BertForPretraining*>(model_.get());
  if (model == nullptr) {
    throw_input_error("{} is {}: expected one with a head for masked tokens", checkpoint_.string(),
                      what_is(*model_));
  }
  return *model;
}

BertForTask& InferenceSession::task_model() {
  auto* const model = dynamic_cast<BertForTask*>(model_.get());
  if (model == nullptr) {
    throw_input_error("{} is {}: expected one that was fine-tuned on a task", checkpoint_.string(),
                      what_is(*model_));
  }
  return *model;
}

}  // namespace bert
