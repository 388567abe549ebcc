// Checkpoints of random weights with the head of a task.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenization/tokenizer.h"
#include "model/bert_for_task.h"
#include "model/model_files.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "train/step/backend.h"
#include "train/tasks/task.h"

namespace bert {

// A folder of `model` with weights so large that its answers differ from text to text.
template <typename Model>
void write_random_model(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                        std::unique_ptr<Model> given) {
  Backend backend = make_backend(Precision::fp32, 1);
  const std::unique_ptr<Model> owned = std::move(given);  // goes before the backend
  Model& model = *owned;
  model.allocate(*backend.device, *backend.ops,
                 {.tokens = 8, .sequences = 1, .masked = 1, .max_seqlen = 8}, false);
  PhiloxStream random(5, 7, 0);
  for (const Parameter& parameter : model.parameters().parameters()) {
    std::vector<double> values(static_cast<std::size_t>(parameter.numel()));
    for (double& value : values) value = random.next_double() - 0.5;
    model.parameters().write(parameter.value, values);
  }
  std::filesystem::create_directories(folder);
  save_model(folder, model, tokenizer.special().pad);
  tokenizer.save(folder);
}

inline BertConfig random_config(std::int64_t vocab_size) {
  BertConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 16;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 24;
  config.max_position_embeddings = 40;
  return config;
}

// With task.json, unless the model is to be one of Hugging Face's.
inline void write_task_checkpoint(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                  TaskKind kind, const std::vector<std::string>& labels,
                                  bool with_task = true) {
  write_random_model(
      folder, tokenizer,
      std::make_unique<BertForTask>(random_config(tokenizer.vocab_size()), kind, labels));
  if (!with_task) return;
  TaskOptions options;
  options.kind = kind;
  options.labels = labels;
  options.max_length = 32;
  options.doc_stride = 8;
  options.max_query_length = 8;
  write_file_atomic(folder / "task.json", make_task(options)->to_json());
}

}  // namespace bert
