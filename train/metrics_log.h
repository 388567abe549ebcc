// metrics.jsonl: one JSON object a line, appended as training goes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace bert {

// One flat record as a line without its newline. Doubles are printed as the shortest text that
// reads back the same; NaN and infinities, which JSON cannot hold, as null.
std::string format_metrics_line(const nlohmann::ordered_json& record);

// Rewrites `path` atomically without the lines whose "step" is greater than `last_step` and
// without a half-written last line. No file is fine. InputError naming the line when another line
// is not a JSON object with a "step".
void cut_metrics_log(const std::filesystem::path& path, std::int64_t last_step);

class MetricsLog {
 public:
  // Cuts the file back to `last_step` (0: a fresh run) and opens it for appending.
  MetricsLog(std::filesystem::path path, std::int64_t last_step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  // `record`: a flat object with an integer "step". In one write, so that a killed run leaves at
  // most one broken line, the last. RuntimeError when the disk refuses.
  void append(const nlohmann::ordered_json& record);

 private:
  std::filesystem::path path_;
  int file_ = -1;
};

}  // namespace bert
