// What a fine-tuned model answers. The names are those of the configuration and of task.json.
#pragma once

#include <string_view>
#include <utility>

#include "runtime/error.h"

namespace bert {

enum class TaskKind {
  classification,        // one of several labels for a text or a pair of texts
  regression,            // a number for a text or a pair of texts
  token_classification,  // one of several labels for each word
  question_answering,    // the part of a text that answers a question
};

inline constexpr std::pair<TaskKind, std::string_view> kTaskKinds[] = {
    {TaskKind::classification, "classification"},
    {TaskKind::regression, "regression"},
    {TaskKind::token_classification, "token_classification"},
    {TaskKind::question_answering, "question_answering"}};

constexpr std::string_view task_kind_name(TaskKind kind) {
  for (const auto& [value, name] : kTaskKinds) {
    if (value == kind) return name;
  }
  return "";
}

// InputError naming the possible values.
inline TaskKind parse_task_kind(std::string_view name) {
  for (const auto& [kind, known] : kTaskKinds) {
    if (known == name) return kind;
  }
  throw_input_error(
      "'{}' is no task: expected classification, regression, token_classification or "
      "question_answering",
      name);
}

}  // namespace bert
