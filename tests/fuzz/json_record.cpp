// A line of JSON lines (data/text/json_record.h), against the JSON library.
#include "data/text/json_record.h"

#include <nlohmann/json.hpp>

#include "data/text/unicode.h"
#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {
namespace {

using nlohmann::json;

// What the library says. Not everything can be compared: numbers beyond a double are an error to
// it, and the field may be given twice.
struct Expected {
  bool comparable = true, right = false;
  std::string text;
};

Expected expected(std::string_view record) {
  Expected answer;
  int fields = 0;
  const auto count = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key && depth == 1 && value == "text") ++fields;
    if (depth > 90) answer.comparable = false;
    return true;
  };
  try {
    const json value = json::parse(record, count);
    answer.right = value.is_object() && value.contains("text") && value["text"].is_string();
    if (answer.right) answer.text = value["text"].get<std::string>();
  } catch (const json::out_of_range&) {
    answer.comparable = false;
  } catch (const json::exception&) {
  }
  if (fields > 1) answer.comparable = false;
  return answer;
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const std::string_view record = as_text(data, size);
  if (!bert::is_valid_utf8(record) || record.starts_with("\xef\xbb\xbf")) return 0;
  std::string text;
  const bool right = bert::read_json_text(record, "text", text).empty();
  require(!right || bert::is_valid_utf8(text), "the text is valid");
  if (record.find('\0') != std::string_view::npos) {
    require(!right, "no byte of JSON is NUL");  // the library takes it for the end
    return 0;
  }
  const Expected wanted = expected(record);
  if (!wanted.comparable) return 0;
  require(right == wanted.right, "the same records are right as for the JSON library");
  require(!right || text == wanted.text, "the text is the same");
  return 0;
}
