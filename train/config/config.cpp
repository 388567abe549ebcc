#include "train/config/config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "runtime/error.h"
#include "runtime/file.h"
#include "train/config/config_keys.h"

namespace bert {
namespace {

void check_sequence_lengths(const Config& config, std::int64_t most) {
  for (const Phase& phase : config.phases()) {
    if (phase.sequence_length <= most) continue;
    const std::string where = config.where(phase.length_key);
    if (config.model.init_from) {
      throw_input_error(
          "{}: a sequence_length of {} does not fit the model in {}, which reads {} tokens; make "
          "it shorter",
          where, phase.sequence_length, *config.model.init_from, most);
    }
    throw_input_error(
        "{}: a sequence_length of {} does not fit model.max_position_embeddings, which is {}; make "
        "the one shorter or the other longer",
        where, phase.sequence_length, most);
  }
}

void check_model(const Config& config, const BertConfig& model) {
  if (model.hidden_size % model.num_attention_heads != 0) {
    const bool heads = config.is_given("model.num_attention_heads");
    throw_input_error(
        "{}: hidden_size {} is not a multiple of num_attention_heads {}; heads usually have 64 "
        "numbers each",
        config.where(heads ? "model.num_attention_heads" : "model.hidden_size"), model.hidden_size,
        model.num_attention_heads);
  }
  check_sequence_lengths(config, model.max_position_embeddings);
  if (config.objective.next_sentence && model.type_vocab_size < 2) {
    throw_input_error("{}: objective.next_sentence needs two kinds of segments, at least 2",
                      config.where("model.type_vocab_size"));
  }
}

void check_config(const Config& config) {
  if (config.schedule.warmup_steps > config.train.max_steps) {
    const bool warmup = config.is_given("schedule.warmup_steps");
    throw_input_error(
        "{}: {} steps of warm-up (schedule.warmup_steps) are more than train.max_steps, which is "
        "{}: change one of them",
        config.where(warmup ? "schedule.warmup_steps" : "train.max_steps"),
        config.schedule.warmup_steps, config.train.max_steps);
  }
  for (const Phase& phase : config.phases()) {
    check_micro_batch(config, phase.room_key, config.train, phase.sequence_length,
                      phase.micro_batch_tokens);
  }
  check_reproducible(config, config.train, config.runtime);
  if (config.evaluation.patience > 0 && config.evaluation.every_steps == 0) {
    throw_input_error(
        "{}: stopping early needs evaluations on the way: give "
        "evaluation.every_steps",
        config.where("evaluation.patience"));
  }
  if (!config.model.init_from) check_model(config, config.model.bert);
}

// A key that may differ between a run and the model that it starts from, or goes on with.
struct ChangeableKey {
  std::string_view name;
  void (*copy)(const BertConfig& from, BertConfig& to);
};

template <auto Member>
void copy_member(const BertConfig& from, BertConfig& to) {
  to.*Member = from.*Member;
}

constexpr ChangeableKey kChangeable[] = {
    {"model.hidden_dropout_prob", copy_member<&BertConfig::hidden_dropout_prob>},
    {"model.attention_probs_dropout_prob", copy_member<&BertConfig::attention_probs_dropout_prob>},
    {"model.initializer_range", copy_member<&BertConfig::initializer_range>},
    {"model.init", copy_member<&BertConfig::init>}};

bool may_change(std::string_view key) {
  return std::any_of(std::begin(kChangeable), std::end(kChangeable),
                     [&](const ChangeableKey& one) { return one.name == key; });
}

// The model found in init_from's folder, with what the file may change.
BertConfig continue_from(const Config& config, const BertConfig& found) {
  if (config.is_given("model.preset")) {
    throw_input_error("{}: model.init_from brings its own sizes; leave the preset out",
                      config.where("model.preset"));
  }
  Config there = config;  // the found model, seen through the same keys
  there.model.bert = found;
  for (const ConfigKey& key : config_keys()) {
    const bool about_the_model =
        key.section() == "model" && key.name != "model.preset" && key.name != "model.init_from";
    if (!about_the_model || !config.is_given(key.name) || may_change(key.name)) continue;
    if (key.name == "model.vocab_size" && config.model.bert.vocab_size == 0) continue;
    if (key.get(config) != key.get(there)) {
      throw_input_error("{}: {}, but the model in {} has {}; leave the key out",
                        config.where(key.name), key.get(config), *config.model.init_from,
                        key.get(there));
    }
  }
  BertConfig model = found;
  for (const ChangeableKey& key : kChangeable) {
    if (config.is_given(key.name)) key.copy(config.model.bert, model);
  }
  return model;
}

// With init_from the model's keys come from its folder; the preset's values would contradict it.
bool comes_from_folder(const Config& config, const ConfigKey& key) {
  return config.model.init_from && key.section() == "model" && key.name != "model.init_from" &&
         !config.is_given(key.name);
}

// What `key` is where the preset alone decides.
std::string default_of(const ConfigKey& key, const Config& config) {
  Config preset;
  preset.model.bert = bert_preset(config.model.preset);
  preset.model.bert.vocab_size = 0;
  const std::string value = key.get(preset);
  return value == key.default_value ? value : value + " (" + config.model.preset + ")";
}

std::vector<WrittenKey> written_keys(const Config& config) {
  const ConfigTable<Config>& table = config_table();
  std::vector<WrittenKey> list = table.written(config);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const ConfigKey& key = table.keys()[i];
    list[i].default_value = default_of(key, config);
    if (!comes_from_folder(config, key)) continue;
    list[i].value.reset();
    list[i].instead = "as in " + *config.model.init_from;
  }
  return list;
}

}  // namespace

std::vector<Phase> Config::phases() const {
  Phase current{0, train.max_steps, train.sequence_length, train.batch_size,
                train.micro_batch_tokens};
  std::vector<Phase> list;
  for (std::size_t i = 0; i < train.phases.size(); ++i) {
    const PhaseConfig& phase = train.phases[i];
    const auto key = [&](const char* name) { return fmt::format("train.phases[{}].{}", i, name); };
    const auto from =
        static_cast<std::int64_t>(std::floor(phase.from * static_cast<double>(train.max_steps)));
    current.end_step = from;
    if (current.end_step > current.first_step) list.push_back(current);
    current.first_step = from;
    current.end_step = train.max_steps;
    if (phase.sequence_length) {
      current.sequence_length = *phase.sequence_length;
      current.length_key = current.room_key = key("sequence_length");
    }
    if (phase.batch_size) {
      current.batch_size = *phase.batch_size;
      current.batch_key = key("batch_size");
    }
    if (phase.micro_batch_tokens) {
      current.micro_batch_tokens = *phase.micro_batch_tokens;
      current.room_key = key("micro_batch_tokens");
    }
  }
  list.push_back(current);
  return list;
}

Phase Config::phase_at(std::int64_t step) const {
  const std::vector<Phase> list = phases();
  for (const Phase& phase : list) {
    if (step < phase.end_step) return phase;
  }
  return list.back();
}

LrSchedule Config::lr_schedule() const {
  return {optimizer.learning_rate, schedule.warmup_steps, train.max_steps, schedule.decay};
}

Config parse_config(const std::string& yaml, const std::string& source,
                    const std::vector<std::string>& overrides) {
  const ConfigTable<Config>& table = config_table();
  Config config;
  // A preset comes before the keys that stand over it.
  table.apply(read_assignments(yaml, source, overrides, table.names()), config, "model.preset");
  check_config(config);
  return config;
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  const std::string yaml = read_file(path);
  try {
    return parse_config(yaml, path.string(), overrides);
  } catch (const InputError& error) {
    if (!has_task(yaml)) throw;
    throw_input_error("{}; a file with the key task is for finetune", error.what());
  }
}

BertConfig resolve_model(const Config& config, std::int64_t tokenizer_vocab_size,
                         const std::optional<BertConfig>& init_from) {
  BertConfig model = init_from ? continue_from(config, *init_from) : config.model.bert;
  if (model.vocab_size == 0) model.vocab_size = tokenizer_vocab_size;
  if (model.vocab_size < tokenizer_vocab_size) {
    const std::string of = init_from ? "the model in " + config.model.init_from.value_or("?")
                                     : config.where("model.vocab_size");
    throw_input_error("{}: a vocab_size of {} is less than the {} entries of the tokenizer {}", of,
                      model.vocab_size, tokenizer_vocab_size, config.tokenizer.path);
  }
  check_model(config, model);
  model.validate();
  return model;
}

std::string model_differences(const BertConfig& here, const BertConfig& there) {
  Config one, other;  // seen through the same keys
  one.model.bert = here;
  other.model.bert = there;
  std::vector<std::string> list;
  for (const ConfigKey& key : config_keys()) {
    if (key.section() != "model" || may_change(key.name)) continue;
    const std::string then = key.get(other), now = key.get(one);
    if (then != now) list.push_back(fmt::format("{} is {} there, {} here", key.leaf(), then, now));
  }
  return fmt::format("{}", fmt::join(list, ", "));
}

std::string config_to_yaml(const Config& config) {
  return write_keys(written_keys(config), Comments::none);
}

std::string explain_config(const Config& config) {
  return write_keys(written_keys(config), Comments::explain);
}

}  // namespace bert
