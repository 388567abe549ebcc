// Task: what fine-tuning needs to know of its data. It reads files into sequences for the model,
// judges what the model says about them, and writes that down for people and programs. Four kinds
// (model/task_kind.h); everything above sees only what is declared here.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/task_files/input_report.h"
#include "data/task_files/text_examples.h"
#include "data/tokenization/tokenizer.h"
#include "kernels/ops.h"
#include "model/task_kind.h"

namespace bert {

// How the tags of words say where an entity begins and ends.
enum class TagScheme {
  automatic,  // as the training file has them; scored by rules that hold for all of them
  iob1,       // B- only where an entity follows another of its type; else I-
  iob2,       // B- begins every entity, I- goes on
  iobes,      // as IOB2, with E- for the last word and S- for an entity of one word
};
inline constexpr Named<TagScheme> kTagSchemes[] = {{TagScheme::automatic, "auto"},
                                                   {TagScheme::iob1, "iob1"},
                                                   {TagScheme::iob2, "iob2"},
                                                   {TagScheme::iobes, "iobes"}};

// Everything about a task but where its files are; kept in a checkpoint.
struct TaskOptions {
  TaskKind kind = TaskKind::classification;
  // Of sequences, [CLS] and [SEP] included. Longer texts are cut, sentences of words are split into
  // several sequences, contexts are read in windows.
  std::int64_t max_length = 128;
  BadRows bad_rows = BadRows::refuse;

  // Classification and token classification: names of the model's outputs, in their order. Empty:
  // those of the training file, by number if all are integers, else in the order of their bytes.
  std::vector<std::string> labels;
  TextExampleOptions table;  // classification and regression

  // Token classification. Columns of a CoNLL file from 1, or from the last: -1.
  std::int64_t token_column = 1, tag_column = -1;
  // Tags are translated into this scheme, which is then that of the labels.
  TagScheme scheme = TagScheme::automatic;

  // Question answering, as in BERT's run_squad.py.
  std::int64_t doc_stride = 128;        // tokens from the beginning of a window to that of the next
  std::int64_t max_query_length = 64;   // tokens of the question; more are cut
  std::int64_t max_answer_length = 30;  // tokens
  std::int64_t n_best = 20;             // answers that compete, and are written
  // Whether "no answer" is an answer (SQuAD 2.0). make_task sets it from a training file that has
  // questions without answers.
  bool allow_no_answer = false;
  // No answer where its score is above that of the best answer by more than this.
  double null_threshold = 0;
};

// One input of the model, and what it should say. An example is one sequence or several in a row.
struct TaskSequence {
  std::vector<std::int32_t> input_ids, token_type_ids;
  std::int64_t example = 0;           // 0 .. num_examples - 1, never decreasing
  std::int32_t label = kIgnoreIndex;  // classification; kIgnoreIndex: unknown
  float value = 0;                    // regression; 0 where it is unknown
  // Token classification: positions of the first piece of each word, and the words' labels
  // (kIgnoreIndex: unknown).
  std::vector<std::int32_t> rows, row_labels;
  // Question answering: positions of the answer's first and last token. 0 ([CLS]) for both where
  // there is no answer, or none within this window.
  std::int32_t start = 0, end = 0;
};

// What the model says of a sequence: classification [num_labels] logits, regression [1], token
// classification [rows, num_labels] logits, question answering [2, T]: start, then end logits.
using TaskOutputs = std::vector<std::vector<float>>;

struct Metric {
  std::string name;
  double value = 0;
};

// The examples of one file.
class TaskDataset {
 public:
  virtual ~TaskDataset() = default;

  // In the order of the file.
  const std::vector<TaskSequence>& sequences() const { return sequences_; }
  std::int64_t num_examples() const { return num_examples_; }
  const InputReport& report() const { return report_; }

  // Both take the outputs for all sequences, in their order.
  // Those of Task::metric_names first, in that order, then others ("f1_person", thresholds). Only
  // of a dataset that was read with its labels.
  virtual std::vector<Metric> metrics(const TaskOutputs& outputs) const = 0;
  // One JSON object a line for each example, in the order of the file:
  // - classification: line, label, probabilities {label: p}
  // - regression: line, value
  // - token classification: line, words, tags, probabilities (of those tags), entities
  //   [{type, start, end, text}]: words [start, end), from 0
  // - question answering: id, text ("" for no answer), start, end (code points of the context),
  //   score, null_score (where "no answer" is an answer), n_best [{text, start, end, score,
  //   probability}]
  virtual void write_predictions(const TaskOutputs& outputs, std::ostream& out) const = 0;

 protected:
  TaskDataset(BadRows bad_rows, std::int64_t most_examples)
      : report_(bad_rows), most_examples_(most_examples) {}
  bool has_all() const { return most_examples_ > 0 && num_examples_ == most_examples_; }
  // Ends with a bug's error where there are not outputs for each sequence, and with a RuntimeError
  // where one is not finite: nothing can be told from it.
  void check_outputs(const TaskOutputs& outputs) const;

  std::vector<TaskSequence> sequences_;
  std::int64_t num_examples_ = 0;
  InputReport report_;

 private:
  virtual std::int64_t outputs_of(const TaskSequence& sequence) const = 0;  // their number

  const std::int64_t most_examples_;  // 0: no limit
};

// What a file is read for.
enum class Purpose {
  training,    // what cannot be learnt from is bad
  evaluation,  // has labels
  prediction,  // labels are not looked at and may be missing
};

class Task {
 public:
  virtual ~Task() = default;

  const TaskOptions& options() const { return options_; }
  TaskKind kind() const { return options_.kind; }
  // Of the model's outputs; empty for regression and question answering.
  const std::vector<std::string>& labels() const { return options_.labels; }
  // Width of the model's head: the number of labels, 1 for regression, 2 for question answering.
  std::int64_t num_outputs() const;

  // `file`: plain or compressed, "-" for standard input. InputError naming file and line (or id):
  // it cannot be read, or holds something bad that is to be refused, or nothing that can be used.
  // `most_examples`: the first so many that can be used; 0: all.
  std::unique_ptr<TaskDataset> read(const std::string& file, const Tokenizer& tokenizer,
                                    Purpose purpose, std::int64_t most_examples = 0) const;
  // The same of the text of a file, which `file` stands for in errors.
  std::unique_ptr<TaskDataset> parse(std::string_view content, const std::string& file,
                                     const Tokenizer& tokenizer, Purpose purpose,
                                     std::int64_t most_examples = 0) const;

  // Larger is better for all of them.
  virtual std::vector<std::string> metric_names() const = 0;
  virtual std::string default_metric() const = 0;

  // task.json of a checkpoint; task_from_json reads it. Holds all options, and no file's name.
  std::string to_json() const;

 protected:
  explicit Task(TaskOptions options) : options_(std::move(options)) {}

  TaskOptions options_;

 private:
  virtual std::unique_ptr<TaskDataset> parse_file(std::string_view content, const std::string& file,
                                                  const Tokenizer& tokenizer, Purpose purpose,
                                                  std::int64_t most_examples) const = 0;
};

// `training_file` gives what the options leave open: labels, whether there are questions without
// answers. InputError: it cannot be read, has fewer than two labels; a number of the options is out
// of its range; a label is empty or given twice.
std::unique_ptr<Task> make_task(TaskOptions options, const std::string& training_file);
// Of options that leave nothing open.
std::unique_ptr<Task> make_task(TaskOptions options);
// InputError naming `source`: not JSON, a key that is missing, unknown or of the wrong type, or as
// for make_task.
std::unique_ptr<Task> task_from_json(std::string_view text, const std::string& source);

// The name of `metric`, or of the task's default if it is "". InputError listing the task's metrics
// if it is none of them.
std::string choose_metric(const Task& task, const std::string& metric);

}  // namespace bert
