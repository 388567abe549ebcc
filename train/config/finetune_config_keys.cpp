#include "train/config/finetune_config_keys.h"

#include <set>
#include <utility>

#include "runtime/error.h"
#include "train/config/config_shared_keys.h"

namespace bert {
namespace {

// --- Kinds of their own -------------------------------------------------------------------------
template <typename T>
void refuse_repeated(const ConfigValue& list, const std::vector<T>& values) {
  std::set<T> seen;
  for (const T& value : values) {
    if (seen.insert(value).second) continue;
    throw_input_error("{}: {}: {} is there twice", list.where(), list.key(), value);
  }
}

// One alone may stand without brackets.
ValueKind<std::vector<std::uint64_t>> seeds() {
  const auto list = list_of(unsigned_integer(), "a list of integers from 0 to 2^64 - 1");
  const auto read = [=](const ConfigValue& value, const std::string& expected) {
    if (!value.node().IsSequence()) return std::vector{value.unsigned_integer(expected)};
    auto values = list.read(value, expected);
    refuse_repeated(value, values);
    return values;
  };
  return {list.expected, read, list.write};
}

ValueKind<std::vector<std::string>> labels() {
  const auto list = list_of(text("a label"), "a list of labels");
  const auto read = [=](const ConfigValue& value, const std::string& expected) {
    auto values = list.read(value, expected);
    refuse_repeated(value, values);
    return values;
  };
  return {list.expected, read, list.write};
}

ValueKind<std::string> column() { return text("a column: its name, or its number from 1 on"); }

ValueKind<ClassWeights> class_weights() {
  using Kind = ClassWeights::Kind;
  const auto list = list_of(number({0.0, 1e6, false, true}), "a list of numbers > 0");
  const auto read = [=](const ConfigValue& value, const std::string& expected) {
    if (value.node().IsSequence()) return ClassWeights{Kind::listed, list.read(value, expected)};
    const std::string word = value.text(expected);
    if (word != "none" && word != "balanced") value.refuse(expected);
    return ClassWeights{word == "none" ? Kind::none : Kind::balanced, {}};
  };
  const auto write = [=](const ClassWeights& choice) -> std::string {
    if (choice.kind == Kind::listed) return list.write(choice.weights);
    return choice.kind == Kind::none ? "none" : "balanced";
  };
  return {"none, balanced, or " + list.expected + ", one for each label", read, write};
}

// --- The table ----------------------------------------------------------------------------------
void add_model_keys(ConfigTable<FinetuneConfig>& table) {
  table.add_required(
      "model.init_from", [](auto& c) -> auto& { return c.model.init_from; },
      text("a folder with config.json and weights"),
      "The pre-trained model: a checkpoint or a Hugging Face folder.");
  table.add(
      "model.random_weights", [](auto& c) -> auto& { return c.model.random_weights; }, boolean(),
      "Whether to take only the sizes and the tokenizer of init_from and to begin with random "
      "weights: a baseline that shows what pre-training is worth.");
  table.add(
      "model.hidden_dropout_prob", [](auto& c) -> auto& { return c.model.hidden_dropout_prob; },
      or_auto(number(kDropout)),
      "Dropout of embeddings and of each branch; auto: as init_from says (0.1 in the paper).");
  table.add(
      "model.attention_probs_dropout_prob",
      [](auto& c) -> auto& { return c.model.attention_probs_dropout_prob; },
      or_auto(number(kDropout)), "Dropout of attention probabilities; auto: as init_from says.");
  table.add(
      "model.classifier_dropout", [](auto& c) -> auto& { return c.model.classifier_dropout; },
      or_auto(number(kDropout)),
      "Dropout before the head; auto: as init_from says, or else as hidden_dropout_prob.");
  table.add(
      "tokenizer.path", [](auto& c) -> auto& { return c.tokenizer.path; },
      or_auto(text("a folder written by train_tokenizer, a vocab.txt or a .model")),
      "The tokenizer; it must be the one that the model was trained with. auto: the one in "
      "model.init_from.");
  add_cased_key(table);
}

void add_file_keys(ConfigTable<FinetuneConfig>& table) {
  table.add_required(
      "data.train", [](auto& c) -> auto& { return c.data.train; }, text("a file"),
      "The examples to learn from.");
  table.add_required(
      "data.validation", [](auto& c) -> auto& { return c.data.validation; }, text("a file"),
      "The examples that say which checkpoint is the best.");
  table.add(
      "data.test", [](auto& c) -> auto& { return c.data.test; }, or_null(text("a file")),
      "Examples that the best checkpoint is measured on at the end.");
  table.add(
      "data.format", [](auto& c) -> auto& { return c.data.format; },
      choice<TableFormat>(
          {TableFormat::automatic, TableFormat::tsv, TableFormat::csv, TableFormat::json_lines},
          table_format_name),
      "Of tables, for classification and regression: columns between tabs (nothing is quoted), "
      "columns between commas (texts may be quoted) or a JSON object a line. auto: as the name "
      "of the file ends, or as its first line looks.");
  table.add(
      "data.text", [](auto& c) -> auto& { return c.data.text; }, or_auto(column()),
      "Where the text is. auto: in the columns that GLUE's files and others name (sentence, "
      "sentence1 and sentence2, premise and hypothesis, text), or in the first of two. For token "
      "classification the number of the words' column, from the last if negative; auto: 1.");
  table.add(
      "data.text_pair", [](auto& c) -> auto& { return c.data.text_pair; }, or_auto(column()),
      "Where the second text of a pair is. auto: where data.text is auto, in the second of the "
      "columns that are known for pairs; otherwise there is none.");
  table.add(
      "data.label", [](auto& c) -> auto& { return c.data.label; }, or_auto(column()),
      "Where the label is, or the number to predict. auto: in the column label, gold_label, score "
      "or the like, or in the second of two. For token classification the number of the tags' "
      "column; auto: -1, the last.");
  table.add(
      "data.header", [](auto& c) -> auto& { return c.data.header; }, or_auto(boolean()),
      "Whether the first line of a table names its columns. auto: if it holds a name that is given "
      "here, or one that is known.");
  table.add(
      "data.labels", [](auto& c) -> auto& { return c.data.labels; }, or_auto(labels()),
      "All labels, in the order of the model's outputs; auto: those of the training file.");
  table.add(
      "data.tagging", [](auto& c) -> auto& { return c.data.tagging; }, choice<kTagSchemes>(),
      "For token classification: how tags say where a name begins and ends (iob1, iob2 or iobes); "
      "those of the files are translated. auto: they are taken as they are.");
  table.add(
      "data.bad_rows", [](auto& c) -> auto& { return c.data.bad_rows; },
      choice<BadRows>({BadRows::refuse, BadRows::skip}, bad_rows_name),
      "What to do with an example that is not as it should be (a column too few, an unknown label, "
      "an answer that is not in its text): refuse the file, or skip and count it.");
}

void add_example_keys(ConfigTable<FinetuneConfig>& table) {
  table.add(
      "data.max_length", [](auto& c) -> auto& { return c.data.max_length; },
      or_auto(integer(kLengths)),
      "The longest sequence in tokens, special ones included; longer texts are cut, or read in "
      "windows for question answering. auto: 128, or 384 for question answering, or what the model "
      "reads if that is less.");
  table.add(
      "data.doc_stride", [](auto& c) -> auto& { return c.data.doc_stride; },
      or_auto(integer({1, kMostLength})),
      "For question answering: tokens from the beginning of a window to that of the next. auto: "
      "128, or half of the text in a window if that is less.");
  table.add(
      "data.max_query_length", [](auto& c) -> auto& { return c.data.max_query_length; },
      or_auto(integer({1, kMostLength})),
      "For question answering: longer questions are cut to so many tokens. auto: 64, or a quarter "
      "of max_length if that is less.");
  table.add(
      "data.max_answer_length", [](auto& c) -> auto& { return c.data.max_answer_length; },
      integer({1, kMostLength}),
      "For question answering: the longest answer that is given, in tokens.");
  table.add(
      "data.null_threshold", [](auto& c) -> auto& { return c.data.null_threshold; },
      number({-1e6, 1e6}),
      "For question answering where some questions have no answer: none is given when its score "
      "is more than so much above that of the best answer.");
  table.add(
      "data.max_examples", [](auto& c) -> auto& { return c.data.max_examples; }, integer(kCounts),
      "How many examples of the training file are used, the same ones for each seed; 0: all.");
}

void add_training_keys(ConfigTable<FinetuneConfig>& table) {
  table.add(
      "train.epochs", [](auto& c) -> auto& { return c.train.epochs; }, integer({1, 1000000}),
      "How often each example of the training file is learned from.");
  add_batch_size_key(table);
  add_micro_batch_keys(table);
  add_reproducible_keys(table);
  table.add(
      "freeze.embeddings", [](auto& c) -> auto& { return c.freeze.embeddings; }, boolean(),
      "Whether the embeddings stay as they are.");
  table.add(
      "freeze.layers", [](auto& c) -> auto& { return c.freeze.layers; }, integer({0, 1024}),
      "How many of the lower layers stay as they are; more than 0 needs freeze.embeddings: true, "
      "as the embeddings lie below them. Nothing is spent on gradients of what is frozen.");
  add_optimizer_keys(table);
  table.add(
      "optimizer.layer_decay", [](auto& c) -> auto& { return c.optimizer.layer_decay; },
      number({0.0, 1.0, false, true}),
      "The learning rate of a layer is that of what is above it times this: the head has the whole "
      "rate, then come the topmost layer, the others, and the embeddings. 1: all have the same.");
  table.add(
      "schedule.warmup_fraction", [](auto& c) -> auto& { return c.schedule.warmup_fraction; },
      number({0.0, 1.0}), "Share of all steps in which the learning rate rises from 0.");
  table.add(
      "schedule.decay", [](auto& c) -> auto& { return c.schedule.decay; },
      choice<Decay>({Decay::linear, Decay::constant}, decay_name),
      "After warm-up: linear to 0 at the last step, or constant.");
}

void add_evaluation_keys(ConfigTable<FinetuneConfig>& table) {
  table.add(
      "evaluation.metric", [](auto& c) -> auto& { return c.evaluation.metric; },
      or_auto(text("the name of a metric of the task")),
      "What decides which checkpoint is the best and when to stop; auto: the task's usual one.");
  table.add(
      "evaluation.every_steps", [](auto& c) -> auto& { return c.evaluation.every_steps; },
      integer(kCounts), "Steps between evaluations; 0: one after each epoch.");
  table.add(
      "evaluation.patience", [](auto& c) -> auto& { return c.evaluation.patience; },
      integer(kCounts),
      "Evaluations without a better metric before training stops early; 0: it does not.");
  table.add(
      "evaluation.min_improvement", [](auto& c) -> auto& { return c.evaluation.min_improvement; },
      number({0.0}), "How much better the metric must be to count as better.");
}

ConfigTable<FinetuneConfig> make_table() {
  ConfigTable<FinetuneConfig> table;
  add_run_dir_key(table);
  table.add(
      "seeds", [](auto& c) -> auto& { return c.seeds; }, seeds(),
      "Each decides all that is random in a run of its own: the head, order, dropout. Several are "
      "trained one after the other, each in a folder of its own, and their mean and deviation "
      "reported.");
  table.add_required(
      "task", [](auto& c) -> auto& { return c.task; }, choice<kTaskKinds>(),
      "What to learn: the class of a text or pair of texts, a number for it, the class of each "
      "word, or where in a text the answer to a question stands.");
  table.add(
      "class_weights", [](auto& c) -> auto& { return c.class_weights; }, class_weights(),
      "How much each label counts in the loss; balanced: the rarer in the training file, the more "
      "(examples / (labels * examples of the label)).");
  add_model_keys(table);
  add_file_keys(table);
  add_example_keys(table);
  add_training_keys(table);
  add_divergence_keys(table);
  add_evaluation_keys(table);
  add_checkpoint_keys(table, "Steps between checkpoints; 0: one with each evaluation.",
                      "validation metric");
  add_logging_keys(table);
  add_runtime_keys(table);
  return table;
}

}  // namespace

const ConfigTable<FinetuneConfig>& finetune_config_table() {
  static const ConfigTable<FinetuneConfig> table = make_table();
  return table;
}

}  // namespace bert
