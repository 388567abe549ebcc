// metrics.jsonl and predictions.jsonl: read, and cut back to a step.
#include "train/logging/metrics_log.h"

#include "runtime/file.h"
#include "runtime/json_lines.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const auto path = put_file("metrics.jsonl", as_text(data, size));
  // As `train --resume` and `report` read them.
  accepts([&] {
    bert::for_each_record(path, [](const bert::StepRecord& record) {
      (void)record.value.value("text", "");
      if (record.value.contains("sample")) record.value.at("sample").get<std::size_t>();
    });
  });
  if (!accepts([&] { bert::cut_metrics_log(path, 10); })) return 0;
  const std::string kept = bert::read_file(path);
  require(kept.empty() || kept.ends_with('\n'), "only whole lines are kept");
  require(accepts([&] { bert::cut_metrics_log(path, 10); }), "what was cut can be cut again");
  require(bert::read_file(path) == kept, "and there is nothing left to cut");
  bert::for_each_record(path, [](const bert::StepRecord& record) {
    require(record.step <= 10, "what is kept is of no later step");
  });
  return 0;
}
