// Classification and regression of texts and pairs of texts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "train/tasks/task.h"

namespace bert {

std::unique_ptr<Task> make_text_task(TaskOptions options);

// The labels that a training file has, as TaskOptions::labels says. InputError: fewer than two, or
// so many that they are no labels.
std::vector<std::string> find_text_labels(const std::string& file, const TaskOptions& options);

}  // namespace bert
