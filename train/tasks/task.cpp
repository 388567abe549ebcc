#include "train/tasks/task.h"

#include <algorithm>
#include <cmath>

#include <fmt/ranges.h>

#include "data/text/byte_source.h"
#include "data/text/read_input.h"
#include "runtime/error.h"
#include "train/tasks/question_task.h"
#include "train/tasks/task_options.h"
#include "train/tasks/text_task.h"
#include "train/tasks/word_task.h"

namespace bert {
namespace {

bool has_labels(TaskKind kind) {
  return kind == TaskKind::classification || kind == TaskKind::token_classification;
}

void complete(TaskOptions& options, const std::string& training_file) {
  if (options.kind == TaskKind::question_answering) {
    options.allow_no_answer = options.allow_no_answer || has_no_answers(training_file, options);
  } else if (options.kind == TaskKind::classification && options.labels.empty()) {
    options.labels = find_text_labels(training_file, options);
  } else if (options.kind == TaskKind::token_classification && options.labels.empty()) {
    options.labels = find_word_labels(training_file, options);
  }
}

}  // namespace

void TaskDataset::check_outputs(const TaskOutputs& outputs) const {
  BERT_CHECK(outputs.size() == sequences_.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    BERT_CHECK(static_cast<std::int64_t>(outputs[i].size()) == outputs_of(sequences_[i]),
               "sequence {} has {} outputs", i, outputs[i].size());
    for (const float output : outputs[i]) {
      if (std::isfinite(output)) continue;
      throw_runtime_error("the model's outputs for sequence {} of {} are not finite", i + 1,
                          outputs.size());
    }
  }
}

std::int64_t Task::num_outputs() const {
  switch (kind()) {
    case TaskKind::regression:
      return 1;
    case TaskKind::question_answering:
      return 2;
    default:
      return static_cast<std::int64_t>(labels().size());
  }
}

std::unique_ptr<TaskDataset> Task::read(const std::string& file, const Tokenizer& tokenizer,
                                        Purpose purpose, std::int64_t most_examples) const {
  return parse(read_input(file), display_name(file), tokenizer, purpose, most_examples);
}

std::unique_ptr<TaskDataset> Task::parse(std::string_view content, const std::string& file,
                                         const Tokenizer& tokenizer, Purpose purpose,
                                         std::int64_t most_examples) const {
  std::unique_ptr<TaskDataset> dataset =
      parse_file(content, file, tokenizer, purpose, most_examples);
  if (dataset->sequences().empty()) {
    const std::vector<std::string> lines = dataset->report().lines();
    throw_input_error("{}: holds nothing that can be used{}{}", file, lines.empty() ? "" : ": ",
                      fmt::join(lines, "; "));
  }
  return dataset;
}

std::string Task::to_json() const { return task_options_to_json(options_); }

std::unique_ptr<Task> make_task(TaskOptions options, const std::string& training_file) {
  check_task_options(options);
  complete(options, training_file);
  return make_task(std::move(options));
}

std::unique_ptr<Task> make_task(TaskOptions options) {
  check_task_options(options);
  if (has_labels(options.kind) && options.labels.size() < 2) {
    throw_input_error("labels: {} given, {} needs at least two", options.labels.size(),
                      task_kind_name(options.kind));
  }
  switch (options.kind) {
    case TaskKind::token_classification:
      return make_word_task(std::move(options));
    case TaskKind::question_answering:
      return make_question_task(std::move(options));
    default:
      return make_text_task(std::move(options));
  }
}

std::unique_ptr<Task> task_from_json(std::string_view text, const std::string& source) {
  TaskOptions options = task_options_from_json(text, source);
  try {
    return make_task(std::move(options));
  } catch (const InputError& error) {
    throw_input_error("{}: {}", source, error.what());
  }
}

std::string choose_metric(const Task& task, const std::string& metric) {
  if (metric.empty()) return task.default_metric();
  const std::vector<std::string> names = task.metric_names();
  if (std::find(names.begin(), names.end(), metric) == names.end()) {
    throw_input_error("'{}' is no metric of this {} task: expected {}", metric,
                      task_kind_name(task.kind()), fmt::join(names, ", "));
  }
  return metric;
}

}  // namespace bert
