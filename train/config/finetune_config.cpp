#include "train/config/finetune_config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/plural.h"
#include "train/config/config_shared_keys.h"
#include "train/config/finetune_config_keys.h"

namespace bert {
namespace {

using Key = ConfigKeyOf<FinetuneConfig>;

void check_complete(const FinetuneConfig& config, const std::string& source) {
  for (const Key& key : finetune_config_table().keys()) {
    if (!key.required || config.is_given(key.name)) continue;
    throw_input_error("{}: {} is not given: expected {}", source, key.name, key.expected);
  }
}

// Keys that only some tasks know.
struct TaskKeys {
  std::vector<TaskKind> tasks;
  std::vector<std::string_view> keys;
};

const std::vector<TaskKeys>& task_keys() {
  using enum TaskKind;
  static const std::vector<TaskKeys> list{
      {{classification, regression}, {"data.format", "data.header", "data.text_pair"}},
      {{classification, regression, token_classification}, {"data.text", "data.label"}},
      {{classification, token_classification}, {"data.labels", "class_weights"}},
      {{token_classification}, {"data.tagging"}},
      {{question_answering},
       {"data.doc_stride", "data.max_query_length", "data.max_answer_length",
        "data.null_threshold"}}};
  return list;
}

// A configuration that was written has every key; so the default of a key asks for nothing.
void check_task(const FinetuneConfig& config) {
  const auto name = [](TaskKind task) { return std::string(task_kind_name(task)); };
  for (const TaskKeys& entry : task_keys()) {
    if (std::find(entry.tasks.begin(), entry.tasks.end(), config.task) != entry.tasks.end()) {
      continue;
    }
    std::vector<std::string> tasks;
    for (const TaskKind task : entry.tasks) tasks.push_back(name(task));
    for (const std::string_view key_name : entry.keys) {
      const Key& key = *finetune_config_table().find(key_name);
      if (key.get(config) == key.default_value) continue;
      throw_input_error("{}: the key is for {}, and the task is {}; leave it out",
                        config.where(key_name), fmt::join(tasks, " and "), name(config.task));
    }
  }
}

struct GivenColumn {
  std::string_view key;
  const OrAuto<std::string>& column;
};

// The number of a column, or nothing for a name.
std::optional<std::int64_t> column_number(const std::string& column) {
  std::int64_t number = 0;
  const char* const end = column.data() + column.size();
  const auto result = std::from_chars(column.data(), end, number);
  if (result.ec != std::errc() || result.ptr != end) return std::nullopt;
  return number;
}

// Words and tags stand in columns without names.
void check_word_columns(const FinetuneConfig& config) {
  for (const auto& [key, column] :
       {GivenColumn{"data.text", config.data.text}, GivenColumn{"data.label", config.data.label}}) {
    if (!column || column_number(*column).value_or(0) != 0) continue;
    throw_input_error(
        "{}: {} is no column of words and tags: expected its number, from 1 on or from the last, "
        "-1",
        config.where(key), *column);
  }
}

void check_columns(const FinetuneConfig& config) {
  const FinetuneDataConfig& data = config.data;
  if (config.task == TaskKind::token_classification) check_word_columns(config);
  if (data.format == TableFormat::json_lines && data.header) {
    throw_input_error("{}: JSON lines have no header", config.where("data.header"));
  }
  if (data.text_pair && !data.text) {
    throw_input_error(
        "{}: the column of the second text is given; give that of the first, data.text",
        config.where("data.text_pair"));
  }
  const std::vector<GivenColumn> columns{
      {"data.text", data.text}, {"data.text_pair", data.text_pair}, {"data.label", data.label}};
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto& [key, column] = columns[i];
    if (!column) continue;
    if (data.header == std::optional(false) && !column_number(*column)) {
      throw_input_error("{}: without a header there is no column {}: expected its number",
                        config.where(key), *column);
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (columns[j].column != column) continue;
      throw_input_error("{}: {} is that of {} already", config.where(key), *column, columns[j].key);
    }
  }
}

void check_labels(const FinetuneConfig& config) {
  if (!config.data.labels) return;
  const std::size_t labels = config.data.labels->size();
  if (labels < 2) {
    throw_input_error("{}: with one label there is nothing to learn: expected at least two",
                      config.where("data.labels"));
  }
  const ClassWeights& classes = config.class_weights;
  if (classes.kind == ClassWeights::Kind::listed && classes.weights.size() != labels) {
    throw_input_error("{}: {} for the {} labels of data.labels: expected one for each",
                      config.where("class_weights"), plural(classes.weights.size(), "weight"),
                      labels);
  }
}

void check_windows(const FinetuneConfig& config, const SequenceLengths& lengths) {
  const std::int64_t room = lengths.max_length - lengths.max_query_length - 3;
  if (lengths.doc_stride < room) return;
  // The stride is not at fault where no stride would do.
  const std::string_view key = room > 1 ? "data.doc_stride" : "data.max_query_length";
  throw_input_error(
      "{}: a stride of {} is not below the {} tokens of text that are left in a window of "
      "data.max_length {} after a question of data.max_query_length {} and 3 special tokens; leave "
      "{} at auto, or give less",
      config.where(key), lengths.doc_stride, std::max<std::int64_t>(room, 0), lengths.max_length,
      lengths.max_query_length, key);
}

void check_config(const FinetuneConfig& config) {
  check_task(config);
  check_columns(config);
  check_labels(config);
  (void)config.lengths(kMostLength);
  for (const auto& [key, file] : {std::pair("data.train", config.data.train),
                                  std::pair("data.validation", config.data.validation)}) {
    if (file != "-") continue;
    throw_input_error("{}: standard input can be read once only; name a file", config.where(key));
  }
  if (config.divergence.policy == OnDivergence::rollback) {
    throw_input_error(
        "{}: fine-tuning goes on (skip) or ends (stop); going back is for runs of weeks",
        config.where("divergence.policy"));
  }
  if (config.freeze.layers > 0 && !config.freeze.embeddings) {
    throw_input_error("{}: the embeddings lie below the frozen layers; give freeze.embeddings=true",
                      config.where("freeze.layers"));
  }
  check_reproducible(config, config.train, config.runtime);
}

std::vector<WrittenKey> written_keys(const FinetuneConfig& config) {
  const auto& table = finetune_config_table();
  std::vector<WrittenKey> list = table.written(config);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Key& key = table.keys()[i];
    if (!key.required || config.is_given(key.name)) continue;
    list[i].value.reset();
    list[i].instead = "must be given";
  }
  return list;
}

}  // namespace

SequenceLengths FinetuneConfig::lengths(std::int64_t longest) const {
  const bool answers = task == TaskKind::question_answering;
  SequenceLengths found;
  found.max_length = data.max_length.value_or(std::min<std::int64_t>(answers ? 384 : 128, longest));
  if (found.max_length > longest) {
    throw_input_error(
        "{}: sequences of {} tokens do not fit the model in {}, which reads {}; leave it at auto, "
        "or give less",
        where("data.max_length"), found.max_length, model.init_from, longest);
  }
  if (answers) {
    found.max_query_length =
        data.max_query_length.value_or(std::min<std::int64_t>(64, found.max_length / 4));
    const std::int64_t room = found.max_length - found.max_query_length - 3;
    found.doc_stride = data.doc_stride.value_or(std::clamp<std::int64_t>(room / 2, 1, 128));
    check_windows(*this, found);
  }
  check_micro_batch(*this, "train.micro_batch_tokens", train, found.max_length,
                    train.micro_batch_tokens);
  return found;
}

TaskOptions FinetuneConfig::task_options(std::int64_t longest) const {
  const SequenceLengths fitting = lengths(longest);
  TaskOptions options;
  options.kind = task;
  options.max_length = fitting.max_length;
  options.bad_rows = data.bad_rows;
  options.labels = data.labels.value_or(std::vector<std::string>{});
  if (task == TaskKind::token_classification) {
    if (data.text) options.token_column = column_number(*data.text).value();
    if (data.label) options.tag_column = column_number(*data.label).value();
  } else {
    options.table = {data.format, data.text.value_or(""), data.text_pair.value_or(""),
                     data.label.value_or(""), data.header};
  }
  options.scheme = data.tagging;
  if (task == TaskKind::question_answering) {
    options.doc_stride = fitting.doc_stride;
    options.max_query_length = fitting.max_query_length;
  }
  options.max_answer_length = data.max_answer_length;
  options.null_threshold = data.null_threshold;
  return options;
}

LrSchedule FinetuneConfig::lr_schedule(std::int64_t max_steps) const {
  const double warmup = schedule.warmup_fraction * static_cast<double>(max_steps);
  return {optimizer.learning_rate, static_cast<std::int64_t>(std::floor(warmup)), max_steps,
          schedule.decay};
}

FinetuneConfig parse_finetune_config(const std::string& yaml, const std::string& source,
                                     const std::vector<std::string>& overrides, Missing missing) {
  const auto& table = finetune_config_table();
  FinetuneConfig config;
  table.apply(read_assignments(yaml, source, overrides, table.names()), config);
  if (missing == Missing::refuse) check_complete(config, source);
  check_config(config);
  return config;
}

FinetuneConfig load_finetune_config(const std::filesystem::path& path,
                                    const std::vector<std::string>& overrides, Missing missing) {
  const std::string yaml = read_file(path);
  try {
    return parse_finetune_config(yaml, path.string(), overrides, missing);
  } catch (const InputError& error) {
    const auto is_task = [](const std::string& one) { return one.starts_with("task="); };
    if (has_task(yaml) || std::any_of(overrides.begin(), overrides.end(), is_task)) throw;
    throw_input_error("{}; a file without the key task is for train", error.what());
  }
}

BertConfig resolve_model(const FinetuneConfig& config, std::int64_t tokenizer_vocab_size,
                         const BertConfig& found) {
  BertConfig model = found;
  const FinetuneModelConfig& given = config.model;
  if (given.hidden_dropout_prob) model.hidden_dropout_prob = *given.hidden_dropout_prob;
  if (given.attention_probs_dropout_prob) {
    model.attention_probs_dropout_prob = *given.attention_probs_dropout_prob;
  }
  if (given.classifier_dropout) model.classifier_dropout = given.classifier_dropout;
  if (model.vocab_size < tokenizer_vocab_size) {
    throw_input_error(
        "the model in {}: a vocab_size of {} is less than the {} entries of the tokenizer {}",
        given.init_from, model.vocab_size, tokenizer_vocab_size, config.tokenizer_path());
  }
  (void)config.lengths(model.max_position_embeddings);
  if (config.freeze.layers > model.num_hidden_layers) {
    throw_input_error("{}: there are no {} layers in the model in {}, which has {}",
                      config.where("freeze.layers"), config.freeze.layers, given.init_from,
                      model.num_hidden_layers);
  }
  const bool answers = config.task == TaskKind::question_answering;
  if ((answers || config.data.text_pair) && model.type_vocab_size < 2) {
    throw_input_error("{}: pairs of texts need two kinds of segments, and the model in {} has {}",
                      config.where(answers ? "task" : "data.text_pair"), given.init_from,
                      model.type_vocab_size);
  }
  model.validate();
  return model;
}

std::string finetune_config_to_yaml(const FinetuneConfig& config) {
  return write_keys(written_keys(config), Comments::none);
}

std::string explain_finetune_config(const FinetuneConfig& config) {
  return write_keys(written_keys(config), Comments::explain);
}

}  // namespace bert
