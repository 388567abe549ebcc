// A whole input file in memory.
#pragma once

#include <string>

namespace bert {

// The bytes of `file` ("-": standard input), decompressed (data/text/byte_source.h), without a byte
// order mark. InputError naming the file: it cannot be read, is empty, damaged or UTF-16.
std::string read_input(const std::string& file);

}  // namespace bert
