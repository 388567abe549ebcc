// Which files the inputs on a command line stand for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace bert {

struct InputFile {
  std::string path;           // "-": standard input
  std::size_t source = 0;     // the argument it comes from
  bool named = false;         // it is that argument itself, not found in a folder or by a pattern
  bool regular = false;       // false: standard input, a pipe
  std::uint64_t size = 0;     // bytes, if regular
  std::int64_t modified = 0;  // nanoseconds since 1970, if regular
};

struct Inputs {
  std::vector<InputFile> files;  // in the order of the arguments, each in the order of the paths
  std::uint64_t bytes = 0;       // of all files; 0 if one is not regular
  std::uint64_t left_out = 0;    // files in folders that are not named like text, or empty
  std::string first_left_out;
};

// Each argument is a file, "-" (standard input), a folder or, where nothing has that name, a
// pattern with * ? [...]. Of a folder and all below it, hidden ones aside, the files are taken that
// are named like text: .txt .text .json .jsonl .ndjson, or like WikiExtractor's wiki_00; with or
// without .gz .bz2 .xz .zst. Empty files are left out there, and an error where they are named.
// InputError also: nothing matches, cannot be read, standard input is given twice.
Inputs expand_inputs(const std::vector<std::string>& arguments);

}  // namespace bert
