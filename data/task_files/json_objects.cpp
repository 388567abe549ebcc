#include "data/task_files/json_objects.h"

#include <algorithm>

#include "data/text/blank.h"
#include "runtime/error.h"
#include "runtime/json.h"

namespace bert {

void for_each_json_object(
    std::string_view content, const std::string& file, InputReport& report,
    const std::function<void(const nlohmann::ordered_json& object, std::size_t line)>& use) {
  for (std::size_t line = 1; !content.empty(); ++line) {
    const std::size_t newline = content.find('\n');
    const std::string_view record = content.substr(0, newline);
    content.remove_prefix(newline == std::string_view::npos ? content.size() : newline + 1);
    if (is_blank(record)) continue;
    const std::string place = fmt::format("{}:{}", file, line);
    nlohmann::ordered_json object;
    try {
      object = parse_json<nlohmann::ordered_json>(record, place);
    } catch (const InputError& error) {
      const std::string_view what = error.what();  // begins with the place
      report.bad("not JSON", place, what.substr(std::min(what.size(), place.size() + 1)));
      continue;
    }
    if (object.is_object()) {
      use(object, line);
    } else {
      report.bad("not an object", place, "is no JSON object");
    }
  }
}

bool first_line_is_object_with(std::string_view content, std::initializer_list<const char*> keys) {
  nlohmann::json first;  // not the ordered one: a document in a line may have very many keys
  try {
    first = parse_json<nlohmann::json>(content.substr(0, content.find('\n')), "");
  } catch (const InputError&) {
    return false;
  }
  return first.is_object() && std::all_of(keys.begin(), keys.end(),
                                          [&](const char* key) { return first.contains(key); });
}

}  // namespace bert
