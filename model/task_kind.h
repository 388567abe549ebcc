// What a fine-tuned model answers. The names are those of the configuration and of task.json.
#pragma once

#include <string_view>

#include "runtime/named_values.h"

namespace bert {

enum class TaskKind {
  classification,        // one of several labels for a text or a pair of texts
  regression,            // a number for a text or a pair of texts
  token_classification,  // one of several labels for each word
  question_answering,    // the part of a text that answers a question
};

inline constexpr Named<TaskKind> kTaskKinds[] = {
    {TaskKind::classification, "classification"},
    {TaskKind::regression, "regression"},
    {TaskKind::token_classification, "token_classification"},
    {TaskKind::question_answering, "question_answering"}};

constexpr std::string_view task_kind_name(TaskKind kind) { return name_of(kTaskKinds, kind); }

// InputError naming the possible values.
inline TaskKind parse_task_kind(std::string_view name) {
  return parse_name(kTaskKinds, name, "task");
}

}  // namespace bert
