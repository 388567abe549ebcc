// Token classification: a tag for each word of a sentence.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "train/tasks/task.h"

namespace bert {

std::unique_ptr<Task> make_word_task(TaskOptions options);

// The labels for a training file: its tags, translated where the options give a scheme. Where the
// tags are those of entities, every type gets every prefix that there is, so that a tag that only
// other files have is none the less known.
std::vector<std::string> find_word_labels(const std::string& file, const TaskOptions& options);

}  // namespace bert
