// Files of JSON lines: an object a line, each with the step it is about (metrics.jsonl and its
// neighbours).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include <nlohmann/json.hpp>

namespace bert {

struct StepRecord {
  nlohmann::ordered_json value;  // an object
  std::int64_t step;             // its "step"
  std::string_view line;         // as the file has it, without its newline
};

// Calls `f` with each line of the file, in order. What follows the last newline is no line: it is
// still being written, or a killed run did not finish it. InputError naming file and line where one
// is not a JSON object with an integer "step", or has another value than `f` expects, so that the
// JSON library throws there.
void for_each_record(const std::filesystem::path& path,
                     const std::function<void(const StepRecord&)>& f);

}  // namespace bert
