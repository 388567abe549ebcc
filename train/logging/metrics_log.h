// metrics.jsonl: one JSON object a line, appended as training goes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "train/logging/record_file.h"

namespace bert {

// One flat record as a line without its newline. Doubles are printed as the shortest text that
// reads back the same; NaN and infinities, which JSON cannot hold, as null.
std::string format_metrics_line(const nlohmann::ordered_json& record);

// Takes the lines whose "step" is greater than `last_step` and a half-written last line out of
// `path`, all at once. No file is fine. InputError naming the line when another line is not a JSON
// object with a "step".
void cut_metrics_log(const std::filesystem::path& path, std::int64_t last_step);

inline constexpr std::int64_t kWholeHistory = std::numeric_limits<std::int64_t>::max();

class MetricsLog {
 public:
  // Cuts the file back to `last_step` (0: a fresh run; kWholeHistory: not at all) and opens it for
  // appending. `warn`: as of RecordFile.
  MetricsLog(const std::filesystem::path& path, std::int64_t last_step, RecordFile::Warn warn = {});

  // `record`: a flat object with an integer "step". A disk that refuses does not end the run: see
  // RecordFile.
  void append(const nlohmann::ordered_json& record);
  // Cuts the file back to `last_step`, and forgets the lines of later steps that still wait.
  void go_back(std::int64_t last_step);
  // RuntimeError if lines are still unwritten.
  void finish() { file_.finish(); }

 private:
  RecordFile file_;
};

}  // namespace bert
