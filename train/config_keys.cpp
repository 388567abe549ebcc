#include "train/config_keys.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <utility>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMostLength = 1 << 20;
constexpr std::int64_t kLeastLength = 8;  // of a sample, as PretrainingDataset has it
const IntegerRange kLengths{kLeastLength, kMostLength};
const IntegerRange kBatches{1, std::numeric_limits<std::int32_t>::max()};
const IntegerRange kMicroBatches{kLeastLength, std::numeric_limits<std::int32_t>::max()};
const NumberRange kProbability{0.0, 1.0, true, false};

// --- Values as YAML -----------------------------------------------------------------------------
std::string to_yaml(bool value) { return value ? "true" : "false"; }
std::string to_yaml(std::int64_t value) { return fmt::format("{}", value); }
std::string to_yaml(std::uint64_t value) { return fmt::format("{}", value); }
std::string to_yaml(double value) {
  std::string text = fmt::format("{}", value);
  // YAML 1.1 wants a point before an exponent; without one, other readers see a string.
  const auto exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) {
    text.insert(exponent, ".0");
  }
  return text;
}
std::string to_yaml(const std::string& value) {
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.' ||
           c == '/';
  };
  static const std::vector<std::string> kWords{"null", "true", "false", "yes", "no", "on", "off"};
  const bool starts_well =
      !value.empty() && (std::isalpha(static_cast<unsigned char>(value[0])) || value[0] == '/');
  if (starts_well && std::all_of(value.begin(), value.end(), plain) &&
      std::find(kWords.begin(), kWords.end(), value) == kWords.end()) {
    return value;
  }
  YAML::Emitter emitter;
  emitter << YAML::DoubleQuoted << value;
  return emitter.c_str();
}
template <typename T>
std::string to_yaml(const OrAuto<T>& value, const char* without = "auto") {
  return value ? to_yaml(*value) : without;
}

// --- Kinds of keys ------------------------------------------------------------------------------
// `access` gives the member of a Config: [](auto& c) -> auto& { return c.seed; }.
template <typename Access>
ConfigKey integer(std::string name, Access access, IntegerRange range, std::string meaning) {
  return {std::move(name),
          std::move(meaning),
          range.text(),
          [=](Config& c, const ConfigValue& value) { access(c) = value.integer(range); },
          [=](const Config& c) { return to_yaml(access(c)); },
          {}};
}

template <typename Access>
ConfigKey integer_or_auto(std::string name, Access access, IntegerRange range,
                          std::string meaning) {
  const auto set = [=](Config& c, const ConfigValue& value) {
    access(c).reset();
    if (!value.is_auto()) access(c) = value.integer(range, "auto or ");
  };
  return {std::move(name),
          std::move(meaning),
          "auto or " + range.text(),
          set,
          [=](const Config& c) { return to_yaml(access(c)); },
          {}};
}

template <typename Access>
ConfigKey number(std::string name, Access access, NumberRange range, std::string meaning) {
  return {std::move(name),
          std::move(meaning),
          range.text(),
          [=](Config& c, const ConfigValue& value) { access(c) = value.number(range); },
          [=](const Config& c) { return to_yaml(access(c)); },
          {}};
}

template <typename Access>
ConfigKey boolean(std::string name, Access access, std::string meaning) {
  return {std::move(name),
          std::move(meaning),
          "true or false",
          [=](Config& c, const ConfigValue& value) { access(c) = value.boolean(); },
          [=](const Config& c) { return to_yaml(access(c)); },
          {}};
}

template <typename Access>
ConfigKey path(std::string name, Access access, std::string expected, std::string meaning) {
  return {std::move(name),
          std::move(meaning),
          expected,
          [=](Config& c, const ConfigValue& value) { access(c) = value.text(expected); },
          [=](const Config& c) { return to_yaml(access(c)); },
          {}};
}

// A name out of a list.
template <typename Enum>
struct Choices {
  std::vector<Enum> values;
  std::string_view (*name)(Enum);
};

template <typename Enum, typename Access>
ConfigKey choice(std::string name, Access access, Choices<Enum> choices, std::string meaning) {
  std::vector<std::string_view> names;
  for (const Enum value : choices.values) names.push_back(choices.name(value));
  const std::string expected =
      names.size() == 2
          ? fmt::format("{} or {}", names[0], names[1])
          : fmt::format("{} {}", names.size() == 1 ? "only" : "one of", fmt::join(names, ", "));
  const auto set = [=](Config& c, const ConfigValue& given) {
    const std::string text = given.text(expected);
    for (const Enum value : choices.values) {
      if (text != choices.name(value)) continue;
      access(c) = value;
      return;
    }
    given.refuse(expected);
  };
  return {std::move(name),
          std::move(meaning),
          expected,
          set,
          [=](const Config& c) { return to_yaml(std::string(choices.name(access(c)))); },
          {}};
}

// --- Keys of their own kind ---------------------------------------------------------------------
ConfigKey preset_key() {
  const std::string expected = fmt::format("one of {}", fmt::join(bert_preset_names(), ", "));
  const auto set = [=](Config& c, const ConfigValue& value) {
    const auto& names = bert_preset_names();
    const std::string name = value.text(expected);
    if (std::find(names.begin(), names.end(), name) == names.end()) value.refuse(expected);
    c.model.preset = name;
    c.model.bert = bert_preset(name);
    c.model.bert.vocab_size = 0;
  };
  return {"model.preset",
          "A size of BERT, which sets every model key that is not given.",
          expected,
          set,
          [](const Config& c) { return c.model.preset; },
          {}};
}

ConfigKey init_from_key() {
  const std::string expected = "null or a folder with config.json and model.safetensors";
  const auto set = [=](Config& c, const ConfigValue& value) {
    c.model.init_from.reset();
    if (!value.is_null()) c.model.init_from = value.text(expected);
  };
  return {"model.init_from",
          "A checkpoint or Hugging Face folder whose model training starts from; null starts from "
          "random weights.",
          expected,
          set,
          [](const Config& c) { return to_yaml(c.model.init_from, "null"); },
          {}};
}

ConfigKey vocab_size_key() {
  const IntegerRange range{1, std::numeric_limits<std::int32_t>::max()};
  const auto set = [=](Config& c, const ConfigValue& value) {
    c.model.bert.vocab_size = value.is_auto() ? 0 : value.integer(range, "auto or ");
  };
  const auto get = [](const Config& c) {
    return c.model.bert.vocab_size == 0 ? "auto" : to_yaml(c.model.bert.vocab_size);
  };
  return {"model.vocab_size",
          "Rows of the word embedding; auto: as many as the tokenizer has entries.",
          "auto or " + range.text(),
          set,
          get,
          {}};
}

CorpusChoice parse_corpus(const ConfigValue& value) {
  const std::string folder = "a folder written by prepare_corpus";
  if (value.node().IsScalar()) return {value.text(folder)};
  if (!value.node().IsMap()) value.refuse(folder + " or {path, weight}");
  CorpusChoice corpus;
  for (const auto& entry : value.node()) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    const ConfigValue item = value.child(name, entry.second);
    if (name == "path") {
      corpus.path = item.text(folder);
    } else if (name == "weight") {
      corpus.weight = item.number({0.0, 1e9, false, true});
    } else {
      throw_input_error("{}: unknown key {}: expected path or weight", item.where(), item.key());
    }
  }
  if (corpus.path.empty()) {
    throw_input_error("{}: {} has no `path`: expected {}", value.where(), value.key(), folder);
  }
  return corpus;
}

ConfigKey data_path_key() {
  const std::string expected =
      "a folder written by prepare_corpus, or a list of folders or of {path, weight}";
  const auto set = [=](Config& c, const ConfigValue& value) {
    c.data.path.clear();
    if (!value.node().IsSequence()) {
      c.data.path.push_back({value.text(expected)});
      return;
    }
    std::size_t weighted = 0;
    for (const ConfigValue& element : value.elements()) {
      c.data.path.push_back(parse_corpus(element));
      weighted += c.data.path.back().weight ? 1 : 0;
    }
    if (c.data.path.empty()) value.refuse(expected);
    if (weighted != 0 && weighted != c.data.path.size()) {
      throw_input_error("{}: {}: some corpora have a weight: give one to all of them, or to none",
                        value.where(), value.key());
    }
  };
  const auto get = [](const Config& c) {
    if (c.data.path.size() == 1 && !c.data.path[0].weight) return to_yaml(c.data.path[0].path);
    std::vector<std::string> list;
    for (const CorpusChoice& corpus : c.data.path) {
      const std::string name = to_yaml(corpus.path);
      list.push_back(corpus.weight
                         ? fmt::format("{{path: {}, weight: {}}}", name, to_yaml(*corpus.weight))
                         : name);
    }
    return fmt::format("[{}]", fmt::join(list, ", "));
  };
  return {"data.path",
          "The prepared corpus to train on. Several are mixed: in proportion to their weights, or "
          "without weights to their sizes.",
          expected,
          set,
          get,
          {}};
}

ConfigKey betas_key() {
  const std::string expected = "a list of two numbers, each 0 <= x < 1";
  const auto set = [=](Config& c, const ConfigValue& value) {
    const auto list = value.elements();
    if (list.size() != 2) value.refuse(expected);
    c.optimizer.beta1 = list[0].number(kProbability);
    c.optimizer.beta2 = list[1].number(kProbability);
  };
  const auto get = [](const Config& c) {
    return fmt::format("[{}, {}]", to_yaml(c.optimizer.beta1), to_yaml(c.optimizer.beta2));
  };
  return {"optimizer.betas",
          "How fast AdamW forgets: the decay of its means of gradients and of squared gradients.",
          expected,
          set,
          get,
          {}};
}

PhaseConfig parse_phase(const ConfigValue& value) {
  const std::string keys = "from, sequence_length, batch_size, micro_batch_tokens";
  if (!value.node().IsMap()) value.refuse("a map of " + keys);
  PhaseConfig phase;
  bool has_from = false;
  for (const auto& entry : value.node()) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "?";
    const ConfigValue item = value.child(name, entry.second);
    if (name == "from") {
      if (has_from) item.fail("the key is given twice");
      phase.from = item.number(kProbability);
      has_from = true;
    } else if (name == "sequence_length") {
      phase.sequence_length = item.integer(kLengths);
    } else if (name == "batch_size") {
      phase.batch_size = item.integer(kBatches);
    } else if (name == "micro_batch_tokens") {
      phase.micro_batch_tokens.emplace();
      if (!item.is_auto()) *phase.micro_batch_tokens = item.integer(kMicroBatches, "auto or ");
    } else {
      throw_input_error("{}: unknown key {}: expected some of {}", item.where(), item.key(), keys);
    }
  }
  if (!has_from) {
    throw_input_error("{}: {} has no `from`: expected the fraction of max_steps where it begins",
                      value.where(), value.key());
  }
  return phase;
}

ConfigKey phases_key() {
  const std::string expected = "a list of {from, sequence_length, batch_size, micro_batch_tokens}";
  const auto set = [=](Config& c, const ConfigValue& value) {
    c.train.phases.clear();
    if (value.is_null()) return;
    if (!value.node().IsSequence()) value.refuse(expected);
    for (const ConfigValue& element : value.elements()) {
      const PhaseConfig phase = parse_phase(element);
      if (!c.train.phases.empty() && phase.from <= c.train.phases.back().from) {
        throw_input_error("{}: {}.from is {}, not after the phase before it, which begins at {}",
                          element.where(), element.key(), phase.from, c.train.phases.back().from);
      }
      c.train.phases.push_back(phase);
    }
  };
  const auto get = [](const Config& c) {
    std::vector<std::string> list;
    for (const PhaseConfig& phase : c.train.phases) {
      std::string text = "{from: " + to_yaml(phase.from);
      if (phase.sequence_length) text += ", sequence_length: " + to_yaml(*phase.sequence_length);
      if (phase.batch_size) text += ", batch_size: " + to_yaml(*phase.batch_size);
      if (phase.micro_batch_tokens) {
        text += ", micro_batch_tokens: " + to_yaml(*phase.micro_batch_tokens);
      }
      list.push_back(text + "}");
    }
    return fmt::format("[{}]", fmt::join(list, ", "));
  };
  return {"train.phases",
          "Later parts of the run that change what they name, from the fraction `from` of "
          "max_steps on.",
          expected,
          set,
          get,
          {}};
}

// --- The table ----------------------------------------------------------------------------------
void add_model_keys(std::vector<ConfigKey>& keys) {
  const IntegerRange sizes{1, 1 << 20};
  const std::vector<ConfigKey> list{
      preset_key(),
      choice<LayerNormPlacement>(
          "model.layer_norm", [](auto& c) -> auto& { return c.model.bert.layer_norm; },
          {{LayerNormPlacement::post, LayerNormPlacement::pre}, layer_norm_name},
          "Where LayerNorm stands: after each residual sum (post, the original BERT) or inside "
          "each "
          "branch (pre, easier to train when deep)."),
      choice<Activation>(
          "model.hidden_act", [](auto& c) -> auto& { return c.model.bert.hidden_act; },
          {{Activation::gelu_new, Activation::gelu}, activation_name},
          "The activation: gelu_new (tanh, google's) or gelu (erf, Hugging Face's)."),
      vocab_size_key(),
      integer(
          "model.hidden_size", [](auto& c) -> auto& { return c.model.bert.hidden_size; },
          {1, 1 << 16}, "Numbers per token; a multiple of num_attention_heads."),
      integer(
          "model.num_hidden_layers",
          [](auto& c) -> auto& { return c.model.bert.num_hidden_layers; }, {1, 1024},
          "Encoder layers."),
      integer(
          "model.num_attention_heads",
          [](auto& c) -> auto& { return c.model.bert.num_attention_heads; }, {1, 1 << 16},
          "Heads of each attention."),
      integer(
          "model.intermediate_size",
          [](auto& c) -> auto& { return c.model.bert.intermediate_size; }, sizes,
          "Width of the feed-forward layer, usually 4 * hidden_size."),
      number(
          "model.hidden_dropout_prob",
          [](auto& c) -> auto& { return c.model.bert.hidden_dropout_prob; }, kProbability,
          "Dropout of embeddings and of each branch; small corpora want 0.1, very large ones 0."),
      number(
          "model.attention_probs_dropout_prob",
          [](auto& c) -> auto& { return c.model.bert.attention_probs_dropout_prob; }, kProbability,
          "Dropout of attention probabilities."),
      integer(
          "model.max_position_embeddings",
          [](auto& c) -> auto& { return c.model.bert.max_position_embeddings; }, sizes,
          "The longest sequence the model can ever read."),
      integer(
          "model.type_vocab_size", [](auto& c) -> auto& { return c.model.bert.type_vocab_size; },
          {1, 1 << 16}, "Kinds of segments; 2 for pairs of sentences."),
      number(
          "model.initializer_range",
          [](auto& c) -> auto& { return c.model.bert.initializer_range; }, {0.0, 1.0, false, true},
          "Standard deviation of the random weights at the start."),
      number(
          "model.layer_norm_eps", [](auto& c) -> auto& { return c.model.bert.layer_norm_eps; },
          {0.0, 1.0, false, true}, "Added to the variance in LayerNorm."),
      choice<WeightInit>(
          "model.init", [](auto& c) -> auto& { return c.model.bert.init; },
          {{WeightInit::truncated_normal, WeightInit::normal}, weight_init_name},
          "How weights are drawn: truncated_normal (google's: nothing beyond two standard "
          "deviations) or normal (Hugging Face's)."),
      init_from_key(),
  };
  keys.insert(keys.end(), list.begin(), list.end());
}

void add_data_keys(std::vector<ConfigKey>& keys) {
  const std::vector<ConfigKey> list{
      path(
          "tokenizer.path", [](auto& c) -> auto& { return c.tokenizer.path; },
          "a folder written by train_tokenizer, a vocab.txt or a .model",
          "The tokenizer; it must be the one that the corpus was prepared with."),
      boolean(
          "tokenizer.cased", [](auto& c) -> auto& { return c.tokenizer.cased; },
          "Only for a bare vocab.txt: whether upper and lower case differ. A folder says it "
          "itself."),
      data_path_key(),
      choice<Sampling>(
          "data.sampling", [](auto& c) -> auto& { return c.data.sampling; },
          {{Sampling::sentences, Sampling::chunks}, sampling_name},
          "What a sample is: whole sentences while they fit, or equal chunks of a document."),
      number(
          "data.short_sequence_probability",
          [](auto& c) -> auto& { return c.data.short_sequence_probability; }, {0.0, 1.0},
          "Share of the documents that are cut to samples of a random, shorter length (0.1 in the "
          "original BERT). Give prepare_corpus the same, or the cuts are found at each start."),
      integer(
          "data.prefetch", [](auto& c) -> auto& { return c.data.prefetch; }, {1, 1024},
          "Optimizer steps whose batches are made ahead of time."),
      integer(
          "data.threads", [](auto& c) -> auto& { return c.data.threads; }, {1, 256},
          "Background threads that make batches."),
      choice<Masking>(
          "objective.masking", [](auto& c) -> auto& { return c.objective.masking; },
          {{Masking::whole_word, Masking::token}, masking_name},
          "Whether all pieces of a word are masked together, or each by itself."),
      number(
          "objective.mask_fraction", [](auto& c) -> auto& { return c.objective.mask_fraction; },
          {0.0, 1.0, false, false}, "Share of the tokens that is to be predicted."),
      integer_or_auto(
          "objective.max_predictions", [](auto& c) -> auto& { return c.objective.max_predictions; },
          {1, kMostLength}, "The most tokens predicted per sequence; auto: as mask_fraction says."),
      integer(
          "objective.static_masks", [](auto& c) -> auto& { return c.objective.static_masks; },
          {0, 1 << 20},
          "How many masked forms a sample has, used by the epochs in turn (10 in the original "
          "BERT); 0: a new one in every epoch."),
      boolean(
          "objective.next_sentence", [](auto& c) -> auto& { return c.objective.next_sentence; },
          "Whether to train next sentence prediction too, on pairs of segments."),
  };
  keys.insert(keys.end(), list.begin(), list.end());
}

void add_training_keys(std::vector<ConfigKey>& keys) {
  const std::vector<ConfigKey> list{
      number(
          "optimizer.learning_rate", [](auto& c) -> auto& { return c.optimizer.learning_rate; },
          {0.0, 10.0, false, true}, "The highest learning rate, where warm-up ends."),
      betas_key(),
      number(
          "optimizer.epsilon", [](auto& c) -> auto& { return c.optimizer.epsilon; },
          {0.0, 1.0, false, true}, "Added to the denominator of AdamW."),
      number(
          "optimizer.weight_decay", [](auto& c) -> auto& { return c.optimizer.weight_decay; },
          {0.0, 10.0, true, true},
          "Pull of weights towards zero; biases and LayerNorms have none."),
      boolean(
          "optimizer.bias_correction", [](auto& c) -> auto& { return c.optimizer.bias_correction; },
          "AdamW as published (true) or as in google's BERT (false)."),
      number(
          "optimizer.max_grad_norm", [](auto& c) -> auto& { return c.optimizer.max_grad_norm; },
          {0.0}, "Longer gradients are cut to this norm; 0 leaves them alone."),
      integer(
          "schedule.warmup_steps", [](auto& c) -> auto& { return c.schedule.warmup_steps; },
          {0, kNoLimit}, "Steps in which the learning rate rises from 0."),
      choice<Decay>(
          "schedule.decay", [](auto& c) -> auto& { return c.schedule.decay; },
          {{Decay::linear, Decay::google, Decay::constant}, decay_name},
          "After warm-up: linear to 0 at max_steps, google's (counted from step 0 on), or "
          "constant."),
      integer(
          "train.max_steps", [](auto& c) -> auto& { return c.train.max_steps; }, {1, kNoLimit},
          "Optimizer steps of the whole run."),
      integer(
          "train.batch_size", [](auto& c) -> auto& { return c.train.batch_size; }, kBatches,
          "Sequences per optimizer step, over all ranks."),
      integer(
          "train.sequence_length", [](auto& c) -> auto& { return c.train.sequence_length; },
          kLengths, "The longest sequence in tokens, special ones included."),
      integer_or_auto(
          "train.micro_batch_tokens", [](auto& c) -> auto& { return c.train.micro_batch_tokens; },
          kMicroBatches,
          "Tokens computed at once; less needs less memory and changes no result but its rounding. "
          "auto: up to 4096 on a CPU and 32768 on a GPU, or as many as memory allows; a run keeps "
          "what it chose when it is resumed."),
      boolean(
          "train.recompute", [](auto& c) -> auto& { return c.train.recompute; },
          "Layers share the memory of what backward needs of them, and backward repeats their "
          "forward: a third more work, an eighth of the memory, the same bits."),
      phases_key(),
      boolean(
          "train.reproducible", [](auto& c) -> auto& { return c.train.reproducible; },
          "The same bits whatever the number of ranks, threads and micro_batch_tokens; slower."),
      integer(
          "train.reproducible_sequences",
          [](auto& c) -> auto& { return c.train.reproducible_sequences; }, kBatches,
          "With train.reproducible: sequences computed at once, which decide how sums are rounded. "
          "More are faster and need more memory; batch_size should hold several for each rank."),
  };
  keys.insert(keys.end(), list.begin(), list.end());
}

void add_running_keys(std::vector<ConfigKey>& keys) {
  const std::vector<ConfigKey> list{
      choice<OnDivergence>(
          "divergence.policy", [](auto& c) -> auto& { return c.divergence.policy; },
          {{OnDivergence::skip, OnDivergence::rollback, OnDivergence::stop}, on_divergence_name},
          "After a step whose loss or gradient is not finite, or whose loss is a spike; it changes "
          "nothing in any case. skip: go on with the next batch; rollback: back to the last "
          "checkpoint, and on with the batch after this one; stop: save and fail."),
      number(
          "divergence.spike_z_score", [](auto& c) -> auto& { return c.divergence.spike_z_score; },
          {0.0},
          "A loss this many standard deviations above the mean of the last few hundred steps is a "
          "spike; 0: none is."),
      integer(
          "divergence.max_in_a_row", [](auto& c) -> auto& { return c.divergence.max_in_a_row; },
          {1, kNoLimit},
          "After so many such steps in a row, or rollbacks to one checkpoint, the run fails."),
      integer(
          "evaluation.every_steps", [](auto& c) -> auto& { return c.evaluation.every_steps; },
          {0, kNoLimit}, "Steps between evaluations; 0: only one, at the end."),
      integer(
          "evaluation.max_batches", [](auto& c) -> auto& { return c.evaluation.max_batches; },
          {0, kNoLimit},
          "Batches of validation text per evaluation, of batch_size sequences; 0: all of it."),
      integer(
          "evaluation.samples", [](auto& c) -> auto& { return c.evaluation.samples; }, {0, 10000},
          "Example predictions shown at each evaluation."),
      integer(
          "evaluation.patience", [](auto& c) -> auto& { return c.evaluation.patience; },
          {0, kNoLimit},
          "Evaluations without a better loss before training stops early; 0: it does not."),
      number(
          "evaluation.min_improvement",
          [](auto& c) -> auto& { return c.evaluation.min_improvement; }, {0.0},
          "How much smaller a validation loss must be to count as better."),
      integer(
          "checkpoint.every_steps", [](auto& c) -> auto& { return c.checkpoint.every_steps; },
          {0, kNoLimit}, "Steps between checkpoints; 0: only one, at the end."),
      integer(
          "checkpoint.keep", [](auto& c) -> auto& { return c.checkpoint.keep; }, {1, kNoLimit},
          "How many of the newest checkpoints are kept; the one with the best validation loss is "
          "kept as "
          "well."),
      integer(
          "logging.every_steps", [](auto& c) -> auto& { return c.logging.every_steps; },
          {1, kNoLimit}, "Steps between lines of metrics.jsonl."),
      boolean(
          "logging.tensorboard", [](auto& c) -> auto& { return c.logging.tensorboard; },
          "Whether to write TensorBoard files as well."),
      choice<DeviceChoice>(
          "runtime.device", [](auto& c) -> auto& { return c.runtime.device; },
          {{DeviceChoice::automatic, DeviceChoice::cpu, DeviceChoice::cuda}, device_choice_name},
          "What to compute on; auto: a GPU where there is one. Under mpirun each rank takes one."),
      choice<Precision>(
          "runtime.precision", [](auto& c) -> auto& { return c.runtime.precision; },
          {{Precision::automatic, Precision::fp64, Precision::fp32, Precision::tf32,
            Precision::bf16, Precision::fp8},
           precision_name},
          "Of the numbers; auto: bf16 on a GPU, fp32 on a CPU. bf16, tf32 and fp8 need a GPU; fp8 "
          "is bf16 with the products of the encoder in 8 bits; fp64 is the slow reference on a "
          "CPU."),
      integer_or_auto(
          "runtime.threads", [](auto& c) -> auto& { return c.runtime.threads; }, {1, 4096},
          "Threads per process; auto: one per core of this process. Exact resume needs the same "
          "number, unless train.reproducible is on."),
      choice<Precision>(
          "runtime.allreduce_dtype", [](auto& c) -> auto& { return c.runtime.allreduce_dtype; },
          {{Precision::fp32, Precision::bf16}, precision_name},
          "What gradients travel as between GPUs; bf16 halves the bytes and rounds the sums. Ranks "
          "on CPUs use their own precision."),
      boolean(
          "runtime.cuda_graph", [](auto& c) -> auto& { return c.runtime.cuda_graph; },
          "Whether a GPU records its work of a step once and repeats it, which spares the "
          "launches."),
  };
  keys.insert(keys.end(), list.begin(), list.end());
}

std::vector<ConfigKey> make_table() {
  std::vector<ConfigKey> keys{
      path(
          "run_dir", [](auto& c) -> auto& { return c.run_dir; }, "a folder",
          "Where everything about this run goes: metrics, checkpoints, TensorBoard files."),
      ConfigKey{"seed",
                "Decides all that is random: weights, order, masks, dropout.",
                "an integer from 0 to 2^64 - 1",
                [](Config& c, const ConfigValue& value) { c.seed = value.unsigned_integer(); },
                [](const Config& c) { return to_yaml(c.seed); },
                {}},
  };
  add_model_keys(keys);
  add_data_keys(keys);
  add_training_keys(keys);
  add_running_keys(keys);
  const Config defaults;
  for (ConfigKey& key : keys) key.default_value = key.get(defaults);
  return keys;
}

}  // namespace

namespace {

// Whether `part` is some of the words of `name` ("layers" of "num_hidden_layers"), or the first
// letters of all of them ("lr" of "learning_rate").
bool abbreviates(std::string_view part, std::string_view name) {
  if (part.empty() || part.size() >= name.size()) return false;
  std::string initials;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (i == 0 || name[i - 1] == '_') initials += name[i];
  }
  const std::string words = fmt::format("_{}_", name);
  return words.find(fmt::format("_{}_", part)) != std::string::npos ||
         (part.size() > 1 && part == initials);
}

}  // namespace

std::string_view ConfigKey::section() const {
  const auto dot = name.find('.');
  return dot == std::string::npos ? std::string_view() : std::string_view(name).substr(0, dot);
}

std::string_view ConfigKey::leaf() const {
  const auto dot = name.find('.');
  return dot == std::string::npos ? std::string_view(name) : std::string_view(name).substr(dot + 1);
}

const std::vector<ConfigKey>& config_keys() {
  static const std::vector<ConfigKey> table = make_table();
  return table;
}

const ConfigKey* find_config_key(std::string_view name) {
  for (const ConfigKey& key : config_keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::string_view nearest_config_key(std::string_view name) {
  const auto dot = name.rfind('.');
  const std::string_view leaf = dot == std::string_view::npos ? name : name.substr(dot + 1);
  std::string_view nearest;
  std::size_t least = std::numeric_limits<std::size_t>::max();
  const auto consider = [&](std::string_view candidate, std::size_t distance) {
    if (distance >= least) return;
    nearest = candidate;
    least = distance;
  };
  for (const ConfigKey& key : config_keys()) {
    // A right name in a wrong section is nearer than a similar name in the right one.
    consider(key.name, 2 * edit_distance(name, key.name));
    consider(key.name, 2 * edit_distance(leaf, key.leaf()) + 1);
    if (abbreviates(leaf, key.leaf())) {
      const bool here = dot != std::string_view::npos && key.section() == name.substr(0, dot);
      consider(key.name, here ? 3 : 4);
    }
    if (dot == std::string_view::npos && !key.section().empty()) {
      consider(key.section(), 2 * edit_distance(name, key.section()));
    }
  }
  return nearest;
}

}  // namespace bert
