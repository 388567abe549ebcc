#include "train/config/config_keys.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/error.h"
#include "runtime/nearest_name.h"
#include "train/config/config_shared_keys.h"

namespace bert {
namespace {

// --- Keys and kinds of their own ----------------------------------------------------------------
[[noreturn]] void refuse_unknown(const ConfigValue& item, std::string_view name,
                                 const std::vector<std::string>& known) {
  const std::string nearest = nearest_name(name, known, name.size() / 3);
  throw_input_error("{}: unknown key {}{}", item.where(), item.key(),
                    nearest.empty() ? fmt::format(": expected some of {}", fmt::join(known, ", "))
                                    : fmt::format("; did you mean {}?", nearest));
}

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

// 0 in a Config: auto.
ValueKind<std::int64_t> vocabulary_size() {
  const IntegerRange range{1, std::numeric_limits<std::int32_t>::max()};
  return {"auto or " + range.text(),
          [=](const ConfigValue& value, const std::string& expected) {
            return value.is_auto() ? 0 : value.integer(range, expected);
          },
          [](std::int64_t size) { return size == 0 ? "auto" : to_yaml(size); }};
}

CorpusChoice parse_corpus(const ConfigValue& value) {
  const std::string folder = "a folder written by prepare_corpus";
  if (value.node().IsScalar()) return {value.text(folder)};
  if (!value.node().IsMap()) value.refuse(folder + " or {path, weight}");
  CorpusChoice corpus;
  value.for_each_key([&](const std::string& name, const ConfigValue& item) {
    if (name == "path") {
      corpus.path = item.text(folder);
    } else if (name == "weight") {
      corpus.weight = item.number({0.0, 1e9, false, true});
    } else {
      refuse_unknown(item, name, {"path", "weight"});
    }
  });
  if (corpus.path.empty()) {
    throw_input_error("{}: {} has no `path`: expected {}", value.where(), value.key(), folder);
  }
  return corpus;
}

std::vector<CorpusChoice> parse_corpora(const ConfigValue& value, const std::string& expected) {
  if (!value.node().IsSequence()) return {{value.text(expected)}};
  std::vector<CorpusChoice> corpora;
  std::size_t weighted = 0;
  for (const ConfigValue& element : value.elements()) {
    corpora.push_back(parse_corpus(element));
    weighted += corpora.back().weight ? 1 : 0;
  }
  if (corpora.empty()) value.refuse(expected);
  if (weighted != 0 && weighted != corpora.size()) {
    throw_input_error("{}: {}: some corpora have a weight: give one to all of them, or to none",
                      value.where(), value.key());
  }
  return corpora;
}

std::string write_corpora(const std::vector<CorpusChoice>& corpora) {
  if (corpora.size() == 1 && !corpora[0].weight) return to_yaml(corpora[0].path);
  std::vector<std::string> list;
  for (const CorpusChoice& corpus : corpora) {
    const std::string name = to_yaml(corpus.path);
    list.push_back(corpus.weight
                       ? fmt::format("{{path: {}, weight: {}}}", name, to_yaml(*corpus.weight))
                       : name);
  }
  return fmt::format("[{}]", fmt::join(list, ", "));
}

PhaseConfig parse_phase(const ConfigValue& value) {
  const std::vector<std::string> keys{"from", "sequence_length", "batch_size",
                                      "micro_batch_tokens"};
  if (!value.node().IsMap()) value.refuse(fmt::format("a map of {}", fmt::join(keys, ", ")));
  const auto tokens = or_auto(integer(kMicroBatches));
  PhaseConfig phase;
  bool has_from = false;
  value.for_each_key([&](const std::string& name, const ConfigValue& item) {
    if (name == "from") {
      phase.from = item.number(kProbability);
      has_from = true;
    } else if (name == "sequence_length") {
      phase.sequence_length = item.integer(kLengths);
    } else if (name == "batch_size") {
      phase.batch_size = item.integer(kBatches);
    } else if (name == "micro_batch_tokens") {
      phase.micro_batch_tokens = tokens.read(item, tokens.expected);
    } else {
      refuse_unknown(item, name, keys);
    }
  });
  if (!has_from) {
    throw_input_error("{}: {} has no `from`: expected the fraction of max_steps where it begins",
                      value.where(), value.key());
  }
  return phase;
}

std::vector<PhaseConfig> parse_phases(const ConfigValue& value, const std::string& expected) {
  std::vector<PhaseConfig> phases;
  if (value.is_null()) return phases;
  if (!value.node().IsSequence()) value.refuse(expected);
  for (const ConfigValue& element : value.elements()) {
    const PhaseConfig phase = parse_phase(element);
    if (!phases.empty() && phase.from <= phases.back().from) {
      throw_input_error("{}: {}.from is {}, not after the phase before it, which begins at {}",
                        element.where(), element.key(), phase.from, phases.back().from);
    }
    phases.push_back(phase);
  }
  return phases;
}

std::string write_phases(const std::vector<PhaseConfig>& phases) {
  std::vector<std::string> list;
  for (const PhaseConfig& phase : phases) {
    std::string text = "{from: " + to_yaml(phase.from);
    if (phase.sequence_length) text += ", sequence_length: " + to_yaml(*phase.sequence_length);
    if (phase.batch_size) text += ", batch_size: " + to_yaml(*phase.batch_size);
    if (phase.micro_batch_tokens) {
      const auto& tokens = *phase.micro_batch_tokens;
      text += ", micro_batch_tokens: " + (tokens ? to_yaml(*tokens) : "auto");
    }
    list.push_back(text + "}");
  }
  return fmt::format("[{}]", fmt::join(list, ", "));
}

// --- The table ----------------------------------------------------------------------------------
void add_model_keys(ConfigTable<Config>& table) {
  const IntegerRange sizes{1, 1 << 20};
  table.add(preset_key());
  table.add(
      "model.layer_norm", [](auto& c) -> auto& { return c.model.bert.layer_norm; },
      choice<LayerNormPlacement>({LayerNormPlacement::post, LayerNormPlacement::pre},
                                 layer_norm_name),
      "Where LayerNorm stands: after each residual sum (post, the original BERT) or inside "
      "each branch (pre, easier to train when deep).");
  table.add(
      "model.hidden_act", [](auto& c) -> auto& { return c.model.bert.hidden_act; },
      choice<Activation>({Activation::gelu_new, Activation::gelu}, activation_name),
      "The activation: gelu_new (tanh, google's) or gelu (erf, Hugging Face's).");
  table.add(
      "model.vocab_size", [](auto& c) -> auto& { return c.model.bert.vocab_size; },
      vocabulary_size(), "Rows of the word embedding; auto: as many as the tokenizer has entries.");
  table.add(
      "model.hidden_size", [](auto& c) -> auto& { return c.model.bert.hidden_size; },
      integer({1, 1 << 16}), "Numbers per token; a multiple of num_attention_heads.");
  table.add(
      "model.num_hidden_layers", [](auto& c) -> auto& { return c.model.bert.num_hidden_layers; },
      integer({1, 1024}), "Encoder layers.");
  table.add(
      "model.num_attention_heads",
      [](auto& c) -> auto& { return c.model.bert.num_attention_heads; }, integer({1, 1 << 16}),
      "Heads of each attention.");
  table.add(
      "model.intermediate_size", [](auto& c) -> auto& { return c.model.bert.intermediate_size; },
      integer(sizes), "Width of the feed-forward layer, usually 4 * hidden_size.");
  table.add(
      "model.hidden_dropout_prob",
      [](auto& c) -> auto& { return c.model.bert.hidden_dropout_prob; }, number(kDropout),
      "Dropout of embeddings and of each branch; small corpora want 0.1, very large ones 0.");
  table.add(
      "model.attention_probs_dropout_prob",
      [](auto& c) -> auto& { return c.model.bert.attention_probs_dropout_prob; }, number(kDropout),
      "Dropout of attention probabilities.");
  table.add(
      "model.max_position_embeddings",
      [](auto& c) -> auto& { return c.model.bert.max_position_embeddings; }, integer(sizes),
      "The longest sequence the model can ever read.");
  table.add(
      "model.type_vocab_size", [](auto& c) -> auto& { return c.model.bert.type_vocab_size; },
      integer({1, 1 << 16}), "Kinds of segments; 2 for pairs of sentences.");
  table.add(
      "model.initializer_range", [](auto& c) -> auto& { return c.model.bert.initializer_range; },
      number({0.0, 1.0, false, true}), "Standard deviation of the random weights at the start.");
  table.add(
      "model.layer_norm_eps", [](auto& c) -> auto& { return c.model.bert.layer_norm_eps; },
      number({0.0, 1.0, false, true}), "Added to the variance in LayerNorm.");
  table.add(
      "model.init", [](auto& c) -> auto& { return c.model.bert.init; },
      choice<WeightInit>({WeightInit::truncated_normal, WeightInit::normal}, weight_init_name),
      "How weights are drawn: truncated_normal (google's: nothing beyond two standard "
      "deviations) or normal (Hugging Face's).");
  table.add(
      "model.init_from", [](auto& c) -> auto& { return c.model.init_from; },
      or_null(text("a folder with config.json and weights")),
      "A checkpoint or Hugging Face folder whose model training starts from; null starts from "
      "random weights.");
}

void add_data_keys(ConfigTable<Config>& table) {
  table.add(
      "tokenizer.path", [](auto& c) -> auto& { return c.tokenizer.path; },
      text("a folder written by train_tokenizer, a vocab.txt or a .model"),
      "The tokenizer; it must be the one that the corpus was prepared with.");
  add_cased_key(table);
  table.add(
      "data.path", [](auto& c) -> auto& { return c.data.path; },
      ValueKind<std::vector<CorpusChoice>>{
          "a folder written by prepare_corpus, or a list of folders or of {path, weight}",
          parse_corpora, write_corpora},
      "The prepared corpus to train on. Several are mixed: in proportion to their weights, or "
      "without weights to their sizes.");
  table.add(
      "data.sampling", [](auto& c) -> auto& { return c.data.sampling; },
      choice<Sampling>({Sampling::sentences, Sampling::chunks}, sampling_name),
      "What a sample is: whole sentences while they fit, or equal chunks of a document.");
  table.add(
      "data.short_sequence_probability",
      [](auto& c) -> auto& { return c.data.short_sequence_probability; }, number({0.0, 1.0}),
      "Share of the documents that are cut to samples of a random, shorter length (0.1 in the "
      "original BERT). Give prepare_corpus the same, or the cuts are found at each start.");
  table.add(
      "data.prefetch", [](auto& c) -> auto& { return c.data.prefetch; }, integer({1, 1024}),
      "Optimizer steps whose batches are made ahead of time.");
  table.add(
      "data.threads", [](auto& c) -> auto& { return c.data.threads; }, integer({1, 256}),
      "Background threads that make batches.");
  table.add(
      "objective.masking", [](auto& c) -> auto& { return c.objective.masking; },
      choice<Masking>({Masking::whole_word, Masking::token}, masking_name),
      "Whether all pieces of a word are masked together, or each by itself.");
  table.add(
      "objective.mask_fraction", [](auto& c) -> auto& { return c.objective.mask_fraction; },
      number({0.0, 1.0, false, false}), "Share of the tokens that is to be predicted.");
  table.add(
      "objective.max_predictions", [](auto& c) -> auto& { return c.objective.max_predictions; },
      or_auto(integer({1, kMostLength})),
      "The most tokens predicted per sequence; auto: as mask_fraction says.");
  table.add(
      "objective.static_masks", [](auto& c) -> auto& { return c.objective.static_masks; },
      integer({0, 1 << 20}),
      "How many masked forms a sample has, used by the epochs in turn (10 in the original "
      "BERT); 0: a new one in every epoch.");
  table.add(
      "objective.next_sentence", [](auto& c) -> auto& { return c.objective.next_sentence; },
      boolean(), "Whether to train next sentence prediction too, on pairs of segments.");
}

void add_training_keys(ConfigTable<Config>& table) {
  add_optimizer_keys(table);
  table.add(
      "schedule.warmup_steps", [](auto& c) -> auto& { return c.schedule.warmup_steps; },
      integer(kCounts), "Steps in which the learning rate rises from 0.");
  table.add(
      "schedule.decay", [](auto& c) -> auto& { return c.schedule.decay; }, choice<kDecays>(),
      "After warm-up: linear to 0 at max_steps, google's (counted from step 0 on), or "
      "constant.");
  table.add(
      "train.max_steps", [](auto& c) -> auto& { return c.train.max_steps; }, integer({1, kNoLimit}),
      "Optimizer steps of the whole run.");
  add_batch_size_key(table);
  table.add(
      "train.sequence_length", [](auto& c) -> auto& { return c.train.sequence_length; },
      integer(kLengths), "The longest sequence in tokens, special ones included.");
  add_micro_batch_keys(table);
  table.add(
      "train.phases", [](auto& c) -> auto& { return c.train.phases; },
      ValueKind<std::vector<PhaseConfig>>{
          "a list of {from, sequence_length, batch_size, micro_batch_tokens}", parse_phases,
          write_phases},
      "Later parts of the run that change what they name, from the fraction `from` of "
      "max_steps on.");
  add_reproducible_keys(table);
}

void add_running_keys(ConfigTable<Config>& table) {
  add_divergence_keys(table);
  table.add(
      "evaluation.every_steps", [](auto& c) -> auto& { return c.evaluation.every_steps; },
      integer(kCounts), "Steps between evaluations; 0: only one, at the end.");
  table.add(
      "evaluation.max_batches", [](auto& c) -> auto& { return c.evaluation.max_batches; },
      integer(kCounts),
      "Batches of validation text per evaluation, of batch_size sequences; 0: all of it.");
  table.add(
      "evaluation.samples", [](auto& c) -> auto& { return c.evaluation.samples; },
      integer({0, 10000}), "Example predictions shown at each evaluation.");
  table.add(
      "evaluation.patience", [](auto& c) -> auto& { return c.evaluation.patience; },
      integer(kCounts),
      "Evaluations without a better loss before training stops early; 0: it does not.");
  table.add(
      "evaluation.min_improvement", [](auto& c) -> auto& { return c.evaluation.min_improvement; },
      number({0.0}), "How much smaller a validation loss must be to count as better.");
  add_checkpoint_keys(table, "Steps between checkpoints; 0: only one, at the end.",
                      "validation loss");
  add_logging_keys(table);
  add_runtime_keys(table);
}

ConfigTable<Config> make_table() {
  ConfigTable<Config> table;
  add_run_dir_key(table);
  table.add(
      "seed", [](auto& c) -> auto& { return c.seed; }, unsigned_integer(),
      "Decides all that is random: weights, order, masks, dropout.");
  add_model_keys(table);
  add_data_keys(table);
  add_training_keys(table);
  add_running_keys(table);
  return table;
}

}  // namespace

const ConfigTable<Config>& config_table() {
  static const ConfigTable<Config> table = make_table();
  return table;
}

const std::vector<ConfigKey>& config_keys() { return config_table().keys(); }

}  // namespace bert
