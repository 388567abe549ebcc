#include "train/logging/metrics_log.h"

#include <cmath>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/json_lines.h"

namespace bert {
namespace {

using Json = nlohmann::ordered_json;

std::string format_double(double value) {
  if (!std::isfinite(value)) return "null";
  std::string text = fmt::format("{}", value);
  // Readers that tell integers from floats should see a float.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string quoted(const std::string& text) { return one_line(Json(text)); }

}  // namespace

std::string format_metrics_line(const Json& record) {
  BERT_CHECK(record.is_object());
  std::string line = "{";
  for (const auto& [key, value] : record.items()) {
    if (line.size() > 1) line += ", ";
    line += quoted(key) + ": ";
    if (value.is_number_float()) {
      line += format_double(value.get<double>());
    } else if (value.is_string()) {
      line += quoted(value.get<std::string>());
    } else {
      BERT_CHECK(value.is_primitive(), "{} is not flat", key);
      line += value.dump();
    }
  }
  return line + "}";
}

void cut_metrics_log(const std::filesystem::path& path, std::int64_t last_step) {
  if (!std::filesystem::exists(path)) return;
  std::string kept;
  bool end_only = true;  // only the end of the file goes, as when the steps are in order
  std::uintmax_t seen = 0;
  for_each_record(path, [&](const StepRecord& record) {
    if (record.step <= last_step) {
      end_only = end_only && seen == kept.size();
      kept.append(record.line).push_back('\n');
    }
    seen += record.line.size() + 1;
  });
  if (kept.size() == std::filesystem::file_size(path)) return;
  if (!end_only) return write_file_atomic(path, kept);
  // As much at once as a new file in its place would be, and without room for one.
  std::error_code error;
  std::filesystem::resize_file(path, kept.size(), error);
  if (error) throw_runtime_error("cannot cut {}: {}", path.string(), error.message());
}

MetricsLog::MetricsLog(const std::filesystem::path& path, std::int64_t last_step,
                       RecordFile::Warn warn)
    // Cut before it is opened.
    : file_((cut_metrics_log(path, last_step), path), std::move(warn)) {}

void MetricsLog::go_back(std::int64_t last_step) {
  cut_metrics_log(file_.path(), last_step);
  file_.reopen([&](const std::string& line) {
    return parse_json<Json>(line, file_.path().string())["step"] <= last_step;
  });
}

void MetricsLog::append(const Json& record) {
  BERT_CHECK(record.contains("step") && record["step"].is_number_integer());
  file_.append(format_metrics_line(record) + "\n");
}

}  // namespace bert
