// JSON lines whose records are read whole. (Text for tokenization has a faster way:
// data/text/json_record.h.)
#pragma once

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "data/task_files/input_report.h"

namespace bert {

// Calls `use` with each object of `content`, the text of `file`, and its line, from 1. Blank lines
// are passed over; lines that are no JSON object go to `report`.
void for_each_json_object(
    std::string_view content, const std::string& file, InputReport& report,
    const std::function<void(const nlohmann::ordered_json& object, std::size_t line)>& use);

// Whether the first line is a whole JSON object that has these keys: then the text is such lines
// and no document of another form.
bool first_line_is_object_with(std::string_view content, std::initializer_list<const char*> keys);

}  // namespace bert
