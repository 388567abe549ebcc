// --output of the programs that read files and write one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace bert {

// InputError if `output` is one of the files `inputs`, which it would replace.
inline void refuse_to_replace(const std::filesystem::path& output,
                              const std::vector<std::string>& inputs) {
  std::error_code none;
  if (!std::filesystem::is_regular_file(output, none)) return;
  for (const std::string& input : inputs) {
    if (std::filesystem::equivalent(output, input, none)) {
      throw_input_error("--output: {} is an input; expected another name", output.string());
    }
  }
}

}  // namespace bert
