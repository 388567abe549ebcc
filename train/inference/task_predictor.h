// TaskPredictor: a fine-tuned model's answers, for files and for what is asked directly. Both come
// out of TaskDataset::write_predictions, so they are the same.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "train/inference/inference_session.h"
#include "train/tasks/task.h"

namespace bert {

// A text, or a pair of texts, in which case every one is a pair.
struct TextQuery {
  std::string text, pair;
};

// The options of the task that the model of `session` was fine-tuned on: its task.json; where there
// is none, the kind and the labels that config.json says, and defaults otherwise, with the longest
// texts that the model takes (384 tokens for questions, as is usual). InputError: the model has no
// head for a task; task.json is damaged or of another task than that head.
TaskOptions read_task_options(InferenceSession& session);

class TaskPredictor {
 public:
  // Keeps `session` by reference. InputError: its model is not of this task, or takes fewer tokens
  // than the task's max_length.
  TaskPredictor(InferenceSession& session, TaskOptions options);

  const Task& task() const { return *task_; }
  // The model's outputs for all sequences of `dataset`, computed in micro-batches of what the
  // session has room for. `tokens`, if given, is added to.
  TaskOutputs outputs(const TaskDataset& dataset, std::int64_t* tokens = nullptr);

  // Each gives an object for each query, in their order: what write_predictions writes, but for
  // line and id. InputError: the task is of another kind; a text is empty; a word is empty, has
  // blanks or is -DOCSTART-.
  std::vector<nlohmann::ordered_json> texts(const std::vector<TextQuery>& queries, bool pairs);
  std::vector<nlohmann::ordered_json> words(const std::vector<std::vector<std::string>>& sentences);
  nlohmann::ordered_json answer(const std::string& question, const std::string& context);

 private:
  std::vector<nlohmann::ordered_json> records(const TaskOptions& options,
                                              const std::string& content);
  void require(bool fits, const char* what) const;

  InferenceSession& session_;
  std::unique_ptr<Task> task_;
};

// The words of a text as the tokenizer sees them: parts between white space and marks.
std::vector<std::string> split_words(const Tokenizer& tokenizer, const std::string& text);

}  // namespace bert
