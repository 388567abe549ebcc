#include "runtime/json.h"

namespace bert {

void check_json_text(std::string_view text, const std::string& source) {
  int depth = 0;
  std::size_t line = 1;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (c == '\0') throw_input_error("{}:{}: is not JSON: it holds a NUL byte", source, line);
    if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      if (c == '\\') ++i;  // what it escapes, a quote perhaps
    } else if (c == '{' || c == '[') {
      if (++depth > kMostJsonDepth) {
        throw_input_error("{}:{}: is nested more than {} levels deep", source, line,
                          kMostJsonDepth);
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

template <typename Json>
Json parse_json(std::string_view text, const std::string& source) {
  check_json_text(text, source);
  try {
    return Json::parse(text);
  } catch (const typename Json::exception& error) {
    throw_input_error("{} is not JSON: {}", source, error.what());
  }
}

template <typename Json>
std::string one_line(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template nlohmann::json parse_json(std::string_view, const std::string&);
template nlohmann::ordered_json parse_json(std::string_view, const std::string&);
template std::string one_line(const nlohmann::json&);
template std::string one_line(const nlohmann::ordered_json&);

}  // namespace bert
