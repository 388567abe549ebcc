// task.json of a fine-tuned checkpoint. What is accepted is written and read again.
#include <memory>

#include "tests/fuzz/fuzz_target.h"
#include "train/tasks/task.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  std::unique_ptr<bert::Task> task;
  accepts([&] { task = bert::task_from_json(as_text(data, size), "task.json"); });
  if (task == nullptr) return 0;
  const std::string written = task->to_json();
  require(bert::task_from_json(written, "written")->to_json() == written,
          "a task that was written is read as it was");
  return 0;
}
