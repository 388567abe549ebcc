// TaskOptions: their ranges, and task.json.
#pragma once

#include <string>
#include <string_view>

#include "train/tasks/task.h"

namespace bert {

// InputError naming the option that is out of its range.
void check_task_options(const TaskOptions& options);

std::string task_options_to_json(const TaskOptions& options);
// InputError naming `source`: not JSON, a key that is missing, unknown or of the wrong type. Ranges
// are not checked.
TaskOptions task_options_from_json(std::string_view text, const std::string& source);

}  // namespace bert
