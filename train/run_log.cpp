#include "train/run_log.h"

#include <cerrno>
#include <cstring>

#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

RunLog::RunLog(const fs::path& run_dir, std::int64_t first_step, std::int64_t max_steps,
               bool tensorboard)
    : log_file_(std::fopen((run_dir / "log.txt").c_str(), "a")),
      metrics_log_(run_dir / "metrics.jsonl", first_step),
      predictions_log_(run_dir / "predictions.jsonl", first_step),
      tensorboard_(
          tensorboard ? std::make_unique<TensorboardWriter>(run_dir / "tensorboard", first_step + 1)
                      : nullptr),
      progress_(stderr, first_step, max_steps) {
  if (log_file_ == nullptr) {
    throw_runtime_error("cannot write {}: {}", (run_dir / "log.txt").string(),
                        std::strerror(errno));
  }
}

RunLog::~RunLog() {
  if (log_file_ != nullptr) std::fclose(log_file_);
}

void RunLog::message(const std::string& line) {
  progress_.message(line);
  std::fprintf(log_file_, "%s\n", line.c_str());
  std::fflush(log_file_);
}

void RunLog::metrics(const nlohmann::ordered_json& record, const std::string& group) {
  metrics_log_.append(record);
  if (tensorboard_ == nullptr) return;
  const std::int64_t step = record.at("step");
  for (const auto& [key, value] : record.items()) {
    if (key != "step" && value.is_number()) {
      tensorboard_->scalar(group + "/" + key, value.get<double>(), step);
    }
  }
  tensorboard_->flush();
}

void RunLog::text(const std::string& tag, const std::string& markdown, std::int64_t step) {
  if (tensorboard_ == nullptr) return;
  tensorboard_->text(tag, markdown, step);
  tensorboard_->flush();
}

}  // namespace bert
