#include "runtime/json_lines.h"

#include <string>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json.h"

namespace bert {
namespace {

using Json = nlohmann::ordered_json;

StepRecord parse_record(std::string_view line, const std::string& where) {
  StepRecord record{parse_json<Json>(line, where), 0, line};
  if (!record.value.is_object() || !record.value.contains("step")) {
    throw_input_error("{}: expected a JSON object with a \"step\"; repair or remove the file",
                      where);
  }
  record.step = json_integer<std::int64_t>(record.value["step"], where + ": step");
  return record;
}

}  // namespace

void for_each_record(const std::filesystem::path& path,
                     const std::function<void(const StepRecord&)>& f) {
  const std::string content = read_file(path);
  std::size_t number = 0;
  for (std::size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    const std::string where = fmt::format("{}:{}", path.string(), ++number);
    const std::string_view line(content.data() + begin, end - begin);
    const StepRecord record = parse_record(line, where);
    try {
      f(record);
    } catch (const Json::exception& error) {
      throw_input_error("{}: {}", where, error.what());
    }
  }
}

}  // namespace bert
