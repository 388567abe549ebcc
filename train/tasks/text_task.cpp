#include "train/tasks/text_task.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/text/read_input.h"
#include "train/tasks/classification_metrics.h"
#include "train/tasks/regression_metrics.h"
#include "train/tasks/task_labels.h"
#include "train/tasks/task_predictions.h"
#include "train/tasks/task_sequences.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

std::optional<float> parse_value(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto narrow = static_cast<float>(value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(narrow)) {
    return std::nullopt;
  }
  return narrow;
}

class TextDataset : public TaskDataset {
 public:
  TextDataset(const TaskOptions& options, std::string_view content, const std::string& file,
              const Tokenizer& tokenizer, Purpose purpose, std::int64_t most_examples)
      : TaskDataset(options.bad_rows, most_examples), file_(file) {
    const bool with_labels = purpose != Purpose::prediction;
    const std::vector<TextExample> examples =
        parse_text_examples(content, file, options.table, with_labels, report_);
    const LabelIndex labels(options.labels);
    for (const TextExample& example : examples) {
      if (has_all()) break;
      TaskSequence target;
      if (with_labels && !set_target(options.kind, labels, example, target)) continue;
      add(example, target, options.max_length, tokenizer);
    }
  }

 protected:
  const std::vector<std::size_t>& lines() const { return lines_; }

 private:
  std::string place(const TextExample& example) const {
    return fmt::format("{}:{}", file_, example.line);
  }

  bool set_target(TaskKind kind, const LabelIndex& labels, const TextExample& example,
                  TaskSequence& target) {
    if (kind == TaskKind::regression) {
      const auto value = parse_value(example.label);
      if (value) {
        target.value = *value;
      } else {
        report_.bad("not a number", place(example),
                    fmt::format("'{}' is not a number", example.label));
      }
      return value.has_value();
    }
    const auto label = labels.find(example.label);
    if (label) {
      target.label = *label;
    } else {
      report_.bad("unknown label", place(example), labels.unknown(example.label));
    }
    return label.has_value();
  }

  void add(const TextExample& example, const TaskSequence& target, std::int64_t max_length,
           const Tokenizer& tokenizer) {
    std::vector<Token> first, second;
    tokenizer.encode(example.text, first);
    report_long_words(tokenizer, example.text, first, place(example), report_);
    if (example.pair) {
      tokenizer.encode(*example.pair, second);
      report_long_words(tokenizer, *example.pair, second, place(example), report_);
    }
    if (first.empty() || (example.pair && second.empty())) {
      report_.unusual("no tokens", place(example), "has a text of which the tokenizer leaves none");
    }
    const auto room = static_cast<std::size_t>(max_length) - (example.pair ? 3 : 2);
    const auto [kept_first, kept_second] = longest_first(first.size(), second.size(), room);
    if (kept_first < first.size() || kept_second < second.size()) {
      report_.truncated("long text", place(example),
                        fmt::format("{} of {} tokens are kept", kept_first + kept_second,
                                    first.size() + second.size()));
    }
    TaskSequence sequence =
        assemble_sequence(tokenizer.special(), std::span(first).first(kept_first),
                          std::span(second).first(kept_second), example.pair.has_value());
    sequence.example = num_examples_++;
    sequence.label = target.label;
    sequence.value = target.value;
    sequences_.push_back(std::move(sequence));
    lines_.push_back(example.line);
  }

  std::string file_;
  std::vector<std::size_t> lines_;  // of each example
};

class ClassificationDataset final : public TextDataset {
 public:
  ClassificationDataset(const TaskOptions& options, std::string_view content,
                        const std::string& file, const Tokenizer& tokenizer, Purpose purpose,
                        std::int64_t most_examples)
      : TextDataset(options, content, file, tokenizer, purpose, most_examples),
        labels_(options.labels) {}

  std::vector<Metric> metrics(const TaskOutputs& outputs) const override {
    check_outputs(outputs);
    std::vector<std::int32_t> gold, predicted;
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      gold.push_back(sequences_[i].label);
      predicted.push_back(static_cast<std::int32_t>(largest(outputs[i])));
    }
    const auto classes = static_cast<std::int64_t>(labels_.size());
    const Confusion confusion(gold, predicted, classes);
    std::vector<Metric> metrics{{"accuracy", confusion.accuracy()}};
    if (classes == 2) metrics.push_back({"f1", confusion.f1(1)});
    metrics.push_back({"macro_f1", confusion.macro_f1()});
    metrics.push_back({"matthews", confusion.matthews()});
    return metrics;
  }

  void write_predictions(const TaskOutputs& outputs, std::ostream& out) const override {
    check_outputs(outputs);
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      const std::vector<double> probabilities = softmax(outputs[i]);
      ordered_json record{{"line", lines()[i]}, {"label", labels_[largest(outputs[i])]}};
      for (std::size_t label = 0; label < labels_.size(); ++label) {
        record["probabilities"][labels_[label]] = rounded(probabilities[label]);
      }
      write_line(record, out);
    }
  }

 private:
  std::int64_t outputs_of(const TaskSequence&) const override {
    return static_cast<std::int64_t>(labels_.size());
  }

  std::vector<std::string> labels_;
};

class RegressionDataset final : public TextDataset {
 public:
  using TextDataset::TextDataset;

  std::vector<Metric> metrics(const TaskOutputs& outputs) const override {
    check_outputs(outputs);
    std::vector<double> gold, predicted;
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      gold.push_back(static_cast<double>(sequences_[i].value));
      predicted.push_back(static_cast<double>(outputs[i][0]));
    }
    return {{"pearson", pearson(gold, predicted)},
            {"spearman", spearman(gold, predicted)},
            {"mean_squared_error", mean_squared_error(gold, predicted)}};
  }

  void write_predictions(const TaskOutputs& outputs, std::ostream& out) const override {
    check_outputs(outputs);
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      write_line({{"line", lines()[i]}, {"value", rounded(static_cast<double>(outputs[i][0]))}},
                 out);
    }
  }

 private:
  std::int64_t outputs_of(const TaskSequence&) const override { return 1; }
};

class TextTask final : public Task {
 public:
  explicit TextTask(TaskOptions options) : Task(std::move(options)) {}

  std::vector<std::string> metric_names() const override {
    if (kind() == TaskKind::regression) return {"pearson", "spearman"};
    if (labels().size() == 2) return {"accuracy", "f1", "macro_f1", "matthews"};
    return {"accuracy", "macro_f1", "matthews"};
  }
  std::string default_metric() const override { return metric_names().front(); }

 private:
  std::unique_ptr<TaskDataset> parse_file(std::string_view content, const std::string& file,
                                          const Tokenizer& tokenizer, Purpose purpose,
                                          std::int64_t most_examples) const override {
    if (kind() == TaskKind::regression) {
      return std::make_unique<RegressionDataset>(options_, content, file, tokenizer, purpose,
                                                 most_examples);
    }
    return std::make_unique<ClassificationDataset>(options_, content, file, tokenizer, purpose,
                                                   most_examples);
  }
};

}  // namespace

std::unique_ptr<Task> make_text_task(TaskOptions options) {
  return std::make_unique<TextTask>(std::move(options));
}

std::vector<std::string> find_text_labels(const std::string& file, const TaskOptions& options) {
  InputReport report(options.bad_rows);
  std::set<std::string> labels;
  for (TextExample& example :
       parse_text_examples(read_input(file), file, options.table, true, report)) {
    labels.insert(std::move(example.label));
  }
  return ordered_labels(labels, file);
}

}  // namespace bert
