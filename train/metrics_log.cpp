#include "train/metrics_log.h"

#include <cmath>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"

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

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// The "step" of a line, or nothing if it is no record.
std::int64_t step_of(std::string_view line, const std::filesystem::path& path, std::size_t number) {
  const Json record = Json::parse(line, nullptr, false);
  if (!record.is_object() || !record.contains("step") || !record["step"].is_number_integer()) {
    throw_input_error("{}:{}: expected a JSON object with a \"step\"; repair or remove the file",
                      path.string(), number);
  }
  return record["step"].get<std::int64_t>();
}

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
  const std::string content = read_file(path);
  std::string kept;
  kept.reserve(content.size());
  std::size_t number = 0;
  // What follows the last newline is a line that a killed run did not finish.
  for (std::size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string_view line(content.data() + begin, end - begin);
    if (step_of(line, path, ++number) <= last_step) kept.append(line).push_back('\n');
  }
  if (kept.size() != content.size()) write_file_atomic(path, kept);
}

MetricsLog::MetricsLog(const std::filesystem::path& path, std::int64_t last_step,
                       RecordFile::Warn warn)
    // Cut before it is opened.
    : file_((cut_metrics_log(path, last_step), path), std::move(warn)) {}

void MetricsLog::append(const Json& record) {
  BERT_CHECK(record.contains("step") && record["step"].is_number_integer());
  file_.append(format_metrics_line(record) + "\n");
}

}  // namespace bert
