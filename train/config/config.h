// Config: everything a pre-training run is told, read from YAML with `key.path=value` overrides.
//
// Keys are strict. Each is declared once, in the table of train/config/config_keys.cpp, with its
// meaning and range; its default is the initial value of the member here. An unknown key, a value
// of the wrong type or out of range, and values that contradict one another are InputErrors naming
// file, line, key and what was expected. What this build cannot do is refused, never ignored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/samples/corpus_set.h"
#include "data/samples/mlm_masking.h"
#include "model/bert_config.h"
#include "train/config/config_sections.h"
#include "train/config/lr_schedule.h"

namespace bert {

struct ModelConfig {
  std::string preset = "bert_base";
  std::optional<std::string> init_from;  // a checkpoint or Hugging Face folder
  // The preset with the file's keys over it. vocab_size is 0 for auto: the tokenizer's. Use
  // resolve_model() for the configuration of the model itself.
  BertConfig bert{.vocab_size = 0};
};

struct TokenizerConfig {
  std::string path = "data/tokenizer";
  bool cased = false;  // only for a bare vocab.txt
};

struct DataConfig {
  std::vector<CorpusChoice> path{{"data/corpus"}};
  Sampling sampling = Sampling::sentences;
  double short_sequence_probability = 0.0;
  std::int64_t prefetch = 4;  // steps made ahead
  std::int64_t threads = 1;   // that make them
};

struct ObjectiveConfig {
  Masking masking = Masking::whole_word;
  double mask_fraction = 0.15;
  OrAuto<std::int64_t> max_predictions;  // auto: no limit but mask_fraction
  std::int64_t static_masks = 0;         // 0: new ones in every epoch
  bool next_sentence = false;
};

struct ScheduleConfig {
  std::int64_t warmup_steps = 10000;
  Decay decay = Decay::linear;
};

// One entry of train.phases: from step floor(from * max_steps) on, what it names holds until a
// later phase names it again; the rest stays as it was.
struct PhaseConfig {
  double from = 0.0;  // fraction of max_steps, [0, 1)
  std::optional<std::int64_t> sequence_length, batch_size;
  std::optional<OrAuto<std::int64_t>> micro_batch_tokens;
};

struct TrainConfig : StepConfig {
  std::int64_t max_steps = 1000000;
  std::int64_t sequence_length = 128;
  std::vector<PhaseConfig> phases;
};

struct EvaluationConfig {
  std::int64_t every_steps = 10000;  // 0: at the end only
  std::int64_t max_batches = 200;    // of batch_size sequences; 0: the whole validation split
  std::int64_t samples = 8;
  std::int64_t patience = 0;     // evaluations without a better loss before stopping; 0: never
  double min_improvement = 0.0;  // of the loss, to be better
};

// What holds during a part of the run: steps [first_step, end_step), counting steps done before.
struct Phase {
  std::int64_t first_step = 0, end_step = 0;
  std::int64_t sequence_length = 0, batch_size = 0;
  OrAuto<std::int64_t> micro_batch_tokens;
  // The keys that say so: "train.batch_size", "train.phases[1].batch_size". `room_key`: of
  // sequence_length and micro_batch_tokens the one given last.
  std::string length_key = "train.sequence_length", batch_key = "train.batch_size",
              room_key = "train.micro_batch_tokens";
};

struct Config : GivenKeys {
  std::string run_dir = "runs/bert";
  std::uint64_t seed = 0;
  ModelConfig model;
  TokenizerConfig tokenizer;
  DataConfig data;
  ObjectiveConfig objective;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  TrainConfig train;
  DivergenceConfig divergence;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  LoggingConfig logging;
  RuntimeConfig runtime;

  // The parts of the run, in order, covering [0, max_steps) without gaps; at least one.
  std::vector<Phase> phases() const;
  // The part that the next step belongs to; `step` as for LrSchedule::at, in [0, max_steps).
  Phase phase_at(std::int64_t step) const;

  LrSchedule lr_schedule() const;
};

// Reads `path`, then applies `overrides` ("key.path=value", the value being YAML) in order, and
// checks everything that can be known without opening other files.
Config load_config(const std::filesystem::path& path,
                   const std::vector<std::string>& overrides = {});
// The same for a text; `source` is named in errors.
Config parse_config(const std::string& yaml, const std::string& source,
                    const std::vector<std::string>& overrides = {});

// The model of a run, validated, its vocab_size filled in. `init_from`: the configuration found in
// model.init_from's folder, which then replaces the preset: keys given in the file may change
// dropout and initialisation only, and must agree with it elsewhere. InputError when the tokenizer
// has more entries than the model, or a sequence would not fit max_position_embeddings.
BertConfig resolve_model(const Config& config, std::int64_t tokenizer_vocab_size,
                         const std::optional<BertConfig>& init_from = std::nullopt);

// Why a run whose model is `here` cannot go on with the weights of `there`: "hidden_size is 768
// there, 512 here"; "" if they differ in dropout and initialisation only.
std::string model_differences(const BertConfig& here, const BertConfig& there);

// All keys as YAML that load_config reads back to the same Config: a run's config.yaml. With
// model.init_from, the model's keys that were not given are left out: they are found there.
std::string config_to_yaml(const Config& config);
// The same with every key's meaning, range and default as comments: --print-config.
std::string explain_config(const Config& config);

}  // namespace bert
