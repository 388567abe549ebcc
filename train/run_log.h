// RunLog: all that a run tells, to the terminal and to its directory: progress, log.txt,
// metrics.jsonl, predictions.jsonl and TensorBoard. Only rank 0 has one.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "train/metrics_log.h"
#include "train/progress.h"
#include "train/tensorboard_writer.h"

namespace bert {

class RunLog {
 public:
  // `first_step`: steps done before; what the files say of later ones is cut off.
  RunLog(const std::filesystem::path& run_dir, std::int64_t first_step, std::int64_t max_steps,
         bool tensorboard);
  ~RunLog();

  void message(const std::string& line);
  // `record` holds "step" and numbers: a line of metrics.jsonl and, under `group`/KEY, scalars.
  void metrics(const nlohmann::ordered_json& record, const std::string& group);
  // `record` holds "step" and texts: a line of predictions.jsonl.
  void prediction(const nlohmann::ordered_json& record) { predictions_log_.append(record); }
  void text(const std::string& tag, const std::string& markdown, std::int64_t step);
  Progress& progress() { return progress_; }

 private:
  std::FILE* log_file_;
  MetricsLog metrics_log_, predictions_log_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
  Progress progress_;
};

}  // namespace bert
