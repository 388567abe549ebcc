// What the fuzz targets share. A target is a file NAME.cpp that defines LLVMFuzzerTestOneInput: it
// gives its bytes to a parser, as the content of a file. Whatever they are, the parser takes them
// or throws InputError. Any other exception, a crash, a hang, or memory without measure is a bug.
//
// Built by clang with BERT_FUZZ a target is a libFuzzer program; otherwise replay.cpp runs it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

#include "runtime/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace bert::fuzz {

inline std::string_view as_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process, saying which promise was broken.
void require(bool kept, std::string_view promise);

// False if `parse` throws InputError, true if it returns. Everything else passes through and ends
// the process.
template <typename Parse>
bool accepts(Parse parse) {
  try {
    parse();
    return true;
  } catch (const InputError&) {
    return false;
  }
}

// A folder for parsers that take paths: in memory where there is /dev/shm, one for each process.
const std::filesystem::path& scratch_folder();
// Writes a file in it, without the care that files of value deserve, and returns its path.
std::filesystem::path put_file(const std::filesystem::path& name, std::string_view content);

// Several files in one input: lines "====NAME" begin the file of that name, and what comes before
// the first of them belongs to the first name. Files that are not there are not in the map; other
// names do not count as such lines.
std::map<std::string, std::string> split_files(std::string_view input,
                                               std::initializer_list<std::string_view> names);
// The input that split_files takes apart.
std::string join_files(const std::map<std::string, std::string>& files);

}  // namespace bert::fuzz
