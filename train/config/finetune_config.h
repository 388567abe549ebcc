// FinetuneConfig: everything a fine-tuning run is told, read as strictly as a Config
// (train/config/config.h) from YAML with `key.path=value` overrides.
//
// Each key is declared once, in the table of train/config/finetune_config_keys.cpp; its default is
// the initial value of the member here. What can be known without opening other files is checked on
// reading; what needs the tokenizer, the data or the checkpoint is checked where those are opened.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/bert_config.h"
#include "model/task_kind.h"
#include "train/config/config_sections.h"
#include "train/config/lr_schedule.h"
#include "train/tasks/task.h"

namespace bert {

struct FinetuneModelConfig {
  std::string init_from;        // a checkpoint or Hugging Face folder; always given
  bool random_weights = false;  // its architecture and tokenizer only
  // auto: as the checkpoint says (classifier_dropout: its own, else its hidden_dropout_prob).
  OrAuto<double> hidden_dropout_prob, attention_probs_dropout_prob, classifier_dropout;
};

struct FinetuneTokenizerConfig {
  OrAuto<std::string> path;  // auto: model.init_from
  bool cased = false;        // only for a bare vocab.txt
};

struct FinetuneDataConfig {
  std::string train, validation;  // always given
  std::optional<std::string> test;
  // auto: as TextExampleOptions and TaskOptions say. A column is its name, or its number from 1 on.
  TableFormat format = TableFormat::automatic;
  OrAuto<std::string> text, text_pair, label;
  OrAuto<bool> header;
  OrAuto<std::vector<std::string>> labels;  // in the order of the model's outputs
  TagScheme tagging = TagScheme::automatic;
  BadRows bad_rows = BadRows::refuse;
  OrAuto<std::int64_t> max_length, doc_stride, max_query_length;  // auto: FinetuneConfig::lengths
  std::int64_t max_answer_length = 30;
  double null_threshold = 0.0;
  std::int64_t max_examples = 0;  // of the training file; 0: all
};

// In tokens, special ones included.
struct SequenceLengths {
  std::int64_t max_length = 0;
  std::int64_t doc_stride = 0, max_query_length = 0;  // question answering only
};

struct FinetuneTrainConfig : StepConfig {
  FinetuneTrainConfig() { batch_size = 32; }
  std::int64_t epochs = 3;
};

struct FreezeConfig {
  bool embeddings = false;
  std::int64_t layers = 0;  // the lower ones; more than 0 only with embeddings
};

struct ClassWeights {
  enum class Kind { none, balanced, listed };
  Kind kind = Kind::none;
  std::vector<double> weights;  // listed: one for each label
};

struct FinetuneOptimizerConfig : OptimizerConfig {
  FinetuneOptimizerConfig() { learning_rate = 3e-5; }
  double layer_decay = 1.0;  // the rate of a layer is that of the layer above it times this
};

struct FinetuneScheduleConfig {
  double warmup_fraction = 0.1;  // of all steps
  Decay decay = Decay::linear;   // or constant
};

struct FinetuneEvaluationConfig {
  OrAuto<std::string> metric;    // auto: the task's usual one
  std::int64_t every_steps = 0;  // 0: after each epoch
  std::int64_t patience = 0;     // evaluations without a better metric before stopping; 0: never
  double min_improvement = 0.0;  // of the metric, to be better
};

struct FinetuneConfig : GivenKeys {
  std::string run_dir = "runs/finetune";
  std::vector<std::uint64_t> seeds{0};       // one run for each, none twice
  TaskKind task = TaskKind::classification;  // always given
  FinetuneModelConfig model;
  FinetuneTokenizerConfig tokenizer;
  FinetuneDataConfig data;
  FinetuneTrainConfig train;
  FreezeConfig freeze;
  ClassWeights class_weights;
  FinetuneOptimizerConfig optimizer;
  FinetuneScheduleConfig schedule;
  // No loss is a spike: a hard example among easy ones late in training is what there is to learn.
  DivergenceConfig divergence{.spike_z_score = 0.0};
  FinetuneEvaluationConfig evaluation;
  CheckpointConfig checkpoint{.every_steps = 0};  // 0: with each evaluation
  LoggingConfig logging;
  RuntimeConfig runtime;

  const std::string& tokenizer_path() const {
    return tokenizer.path ? *tokenizer.path : model.init_from;
  }
  // What is meant where a length is auto, for a model that reads `longest` tokens: those of the
  // BERT paper as far as they fit. InputError when a length that is given does not fit the model,
  // or the others.
  SequenceLengths lengths(std::int64_t longest) const;
  // What the task is told, with lengths(longest); whatever else is auto is left open.
  TaskOptions task_options(std::int64_t longest) const;
  // Of a run of so many optimizer steps; warm-up is floor(warmup_fraction * max_steps) of them.
  LrSchedule lr_schedule(std::int64_t max_steps) const;
};

// Whether keys that must be given may be missing: for --print-config.
enum class Missing { refuse, allow };

// Reads `path`, then applies `overrides` ("key.path=value", the value being YAML) in order, and
// checks everything that can be known without opening other files.
FinetuneConfig load_finetune_config(const std::filesystem::path& path,
                                    const std::vector<std::string>& overrides = {},
                                    Missing missing = Missing::refuse);
// The same for a text; `source` is named in errors.
FinetuneConfig parse_finetune_config(const std::string& yaml, const std::string& source,
                                     const std::vector<std::string>& overrides = {},
                                     Missing missing = Missing::refuse);

// The encoder of a run: `found`, the configuration in model.init_from's folder, with the dropout
// that the file gives. InputError when the tokenizer has more entries than the model, the lengths
// do not fit max_position_embeddings, there are fewer layers than freeze.layers, or pairs of texts
// meet a model with one kind of segments.
BertConfig resolve_model(const FinetuneConfig& config, std::int64_t tokenizer_vocab_size,
                         const BertConfig& found);

// All keys as YAML that load_finetune_config reads back to the same FinetuneConfig.
std::string finetune_config_to_yaml(const FinetuneConfig& config);
// The same with every key's meaning, range and default as comments: --print-config.
std::string explain_finetune_config(const FinetuneConfig& config);

}  // namespace bert
