// Extractive question answering: the part of a context that answers a question (SQuAD).
#pragma once

#include <memory>
#include <string>

#include "train/tasks/task.h"

namespace bert {

std::unique_ptr<Task> make_question_task(TaskOptions options);

// Whether a training file has questions without answers.
bool has_no_answers(const std::string& file, const TaskOptions& options);

}  // namespace bert
