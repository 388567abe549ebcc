#include "train/config.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>
#include <utility>

#include <yaml-cpp/eventhandler.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "train/config_keys.h"

namespace bert {
namespace {

// What begins the source of a value that the command line gives; "key=value" follows.
constexpr std::string_view kArgument = "argument ";

// A value that a file or an argument gives a key.
struct Assignment {
  const ConfigKey* key;
  ConfigValue value;
};

bool is_section(std::string_view name) {
  const auto& keys = config_keys();
  return std::any_of(keys.begin(), keys.end(),
                     [&](const ConfigKey& key) { return !name.empty() && key.section() == name; });
}

std::string keys_of_section(std::string_view section) {
  std::vector<std::string_view> names;
  for (const ConfigKey& key : config_keys()) {
    if (key.section() == section) names.push_back(key.leaf());
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

// Appends what `value`, a map (or, with a name, a single key), assigns. `seen`: keys and sections
// met so far.
void collect(const ConfigValue& value, std::set<std::string>& seen, std::vector<Assignment>& out) {
  if (const ConfigKey* key = find_config_key(value.key())) {
    out.push_back({key, value});
    return;
  }
  const bool top = value.key().empty();
  if (!top && !is_section(value.key())) {
    throw_input_error("{}: unknown key {}; did you mean {}? (--print-config shows every key)",
                      value.where(), value.key(), nearest_config_key(value.key()));
  }
  if (value.is_null()) return;  // a section without keys
  if (!value.node().IsMap()) {
    value.refuse("a section with some of the keys " + keys_of_section(value.key()));
  }
  for (const auto& entry : value.node()) {
    // The line of an error is that of the key, not of what stands below it.
    const ConfigValue name = value.child("", entry.first);
    if (!entry.first.IsScalar()) {
      throw_input_error("{}: a key is not a word", name.where());
    }
    const ConfigValue item = value.child(entry.first.Scalar(), entry.second);
    const bool known = find_config_key(item.key()) != nullptr || is_section(item.key());
    if (!known) {
      throw_input_error("{}: unknown key {}; did you mean {}? (--print-config shows every key)",
                        name.where(), item.key(), nearest_config_key(item.key()));
    }
    if (!seen.insert(item.key()).second) {
      throw_input_error("{}: {} is given twice", name.where(), item.key());
    }
    collect(item, seen, out);
  }
}

class IgnoreEvents : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// Not by YAML::LoadAll, which does not end where there is a comma alone: to the library these are
// empty documents without number.
bool has_second_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  IgnoreEvents ignore;
  return parser.HandleNextDocument(ignore) && parser.HandleNextDocument(ignore);
}

YAML::Node parse_yaml(const std::string& text, const std::string& source, bool has_lines) {
  try {
    if (has_second_document(text)) {
      throw_input_error("{}: expected one YAML document, found more", source);
    }
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    if (!has_lines || error.mark.is_null()) {
      throw_input_error("{} is not YAML: {}", source, error.msg);
    }
    const bool tabs = text.find("\n\t") != std::string::npos;
    throw_input_error("{}:{} is not YAML: {}{}", source, error.mark.line + 1, error.msg,
                      tabs ? "; indent with spaces, not with tabs" : "");
  }
}

void collect_file(const std::string& yaml, const std::string& source,
                  std::vector<Assignment>& out) {
  const YAML::Node root = parse_yaml(yaml, source, true);
  if (root.IsNull()) throw_input_error("{} is empty: expected a configuration", source);
  if (!root.IsMap()) {
    throw_input_error("{} is not a configuration: expected sections like `train:` with keys below",
                      source);
  }
  std::set<std::string> seen;
  collect(ConfigValue("", root, source, true), seen, out);
}

void collect_override(const std::string& text, std::vector<Assignment>& out) {
  const std::string source = std::string(kArgument) + text;
  const auto equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw_input_error("{}: expected key.path=value, such as train.max_steps=1000", source);
  }
  const YAML::Node node = parse_yaml(text.substr(equals + 1), source, false);
  std::set<std::string> seen;
  collect(ConfigValue(text.substr(0, equals), node, source, false), seen, out);
}

void apply(const Assignment& assignment, Config& config) {
  assignment.key->set(config, assignment.value);
  config.given[assignment.key->name] = assignment.value.where();
}

// --- Checks across keys -------------------------------------------------------------------------
void check_sequence_lengths(const Config& config, std::int64_t most, const std::string& of) {
  for (const Phase& phase : config.phases()) {
    if (phase.sequence_length <= most) continue;
    const bool base = phase.sequence_length == config.train.sequence_length;
    throw_input_error(
        "{}: a sequence_length of {} does not fit {}, which is {}; make the one shorter or the "
        "other longer",
        config.where(base ? "train.sequence_length" : "train.phases"), phase.sequence_length, of,
        most);
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
  check_sequence_lengths(config, model.max_position_embeddings, "model.max_position_embeddings");
  if (config.objective.next_sentence && model.type_vocab_size < 2) {
    throw_input_error("{}: objective.next_sentence needs two kinds of segments, at least 2",
                      config.where("model.type_vocab_size"));
  }
}

void check_config(const Config& config) {
  if (config.schedule.warmup_steps > config.train.max_steps) {
    throw_input_error("{}: {} steps of warm-up are more than train.max_steps, which is {}",
                      config.where("schedule.warmup_steps"), config.schedule.warmup_steps,
                      config.train.max_steps);
  }
  for (const Phase& phase : config.phases()) {
    if (phase.micro_batch_tokens && *phase.micro_batch_tokens < phase.sequence_length) {
      throw_input_error("{}: {} tokens have no room for one sequence of {}",
                        config.where("train.micro_batch_tokens"), *phase.micro_batch_tokens,
                        phase.sequence_length);
    }
    const std::int64_t fixed = config.train.micro_batch_sequences() * phase.sequence_length;
    if (phase.micro_batch_tokens && *phase.micro_batch_tokens < fixed) {
      throw_input_error(
          "{}: {} tokens have no room for the {} that train.reproducible computes at once, "
          "train.reproducible_sequences ({}) of {}",
          config.where("train.micro_batch_tokens"), *phase.micro_batch_tokens, fixed,
          config.train.reproducible_sequences, phase.sequence_length);
    }
  }
  if (config.train.reproducible && config.runtime.allreduce_dtype == Precision::bf16) {
    throw_input_error("{}: with train.reproducible gradients travel as whole numbers of 64 bits",
                      config.where("runtime.allreduce_dtype"));
  }
  if (config.evaluation.patience > 0 && config.evaluation.every_steps == 0) {
    throw_input_error(
        "{}: stopping early needs evaluations on the way: give "
        "evaluation.every_steps",
        config.where("evaluation.patience"));
  }
  if (!config.model.init_from) check_model(config, config.model.bert);
}

// Whether `key` may differ between a run and the model that it starts from.
bool may_change(std::string_view key) {
  return key == "model.hidden_dropout_prob" || key == "model.attention_probs_dropout_prob" ||
         key == "model.initializer_range" || key == "model.init";
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
  const auto& given = config.model.bert;
  if (config.is_given("model.hidden_dropout_prob")) {
    model.hidden_dropout_prob = given.hidden_dropout_prob;
  }
  if (config.is_given("model.attention_probs_dropout_prob")) {
    model.attention_probs_dropout_prob = given.attention_probs_dropout_prob;
  }
  if (config.is_given("model.initializer_range")) model.initializer_range = given.initializer_range;
  if (config.is_given("model.init")) model.init = given.init;
  return model;
}

}  // namespace

std::string Config::where(std::string_view key) const {
  const auto it = given.find(key);
  if (it == given.end()) return fmt::format("{} (its default)", key);
  if (it->second.starts_with(kArgument)) return it->second;  // it names the key
  return fmt::format("{}: {}", it->second, key);
}

std::vector<Phase> Config::phases() const {
  Phase current{0, train.max_steps, train.sequence_length, train.batch_size,
                train.micro_batch_tokens};
  std::vector<Phase> list;
  for (const PhaseConfig& phase : train.phases) {
    const auto from =
        static_cast<std::int64_t>(std::floor(phase.from * static_cast<double>(train.max_steps)));
    current.end_step = from;
    if (current.end_step > current.first_step) list.push_back(current);
    current.first_step = from;
    current.end_step = train.max_steps;
    if (phase.sequence_length) current.sequence_length = *phase.sequence_length;
    if (phase.batch_size) current.batch_size = *phase.batch_size;
    if (phase.micro_batch_tokens) current.micro_batch_tokens = *phase.micro_batch_tokens;
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
  std::vector<Assignment> assignments;
  collect_file(yaml, source, assignments);
  for (const std::string& text : overrides) collect_override(text, assignments);

  Config config;
  // A preset comes before the keys that stand over it, wherever it is written.
  for (const Assignment& assignment : assignments) {
    if (assignment.key->name == "model.preset") apply(assignment, config);
  }
  for (const Assignment& assignment : assignments) {
    if (assignment.key->name != "model.preset") apply(assignment, config);
  }
  check_config(config);
  return config;
}

Config load_config(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  return parse_config(read_file(path), path.string(), overrides);
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

std::string_view device_choice_name(DeviceChoice device) {
  switch (device) {
    case DeviceChoice::automatic:
      return "auto";
    case DeviceChoice::cpu:
      return "cpu";
    case DeviceChoice::cuda:
      return "cuda";
  }
  return "?";
}

std::string_view precision_name(Precision precision) {
  switch (precision) {
    case Precision::automatic:
      return "auto";
    case Precision::fp64:
      return "fp64";
    case Precision::fp32:
      return "fp32";
    case Precision::tf32:
      return "tf32";
    case Precision::bf16:
      return "bf16";
    case Precision::fp8:
      return "fp8";
  }
  return "?";
}

std::string_view on_divergence_name(OnDivergence policy) {
  switch (policy) {
    case OnDivergence::skip:
      return "skip";
    case OnDivergence::rollback:
      return "rollback";
    case OnDivergence::stop:
      return "stop";
  }
  return "?";
}

std::string_view decay_name(Decay decay) {
  switch (decay) {
    case Decay::linear:
      return "linear";
    case Decay::google:
      return "google";
    case Decay::constant:
      return "constant";
  }
  return "?";
}

}  // namespace bert
