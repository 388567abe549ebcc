// TextReader: the blocks or the lines of raw text files, one file after the other.
//
// Files are UTF-8, plain or compressed by gzip, bzip2, xz or zstd (told by their first bytes), text
// or JSON lines (text_blocks.h); folders and patterns stand for the files they hold
// (input_files.h). Compressed data that end too early are an error; changed bytes are one where
// libarchive looks at a checksum (bzip2, xz; not gzip). A byte order mark and carriage returns at
// line ends are dropped; nothing else of a line is changed, except that invalid UTF-8 becomes
// U+FFFD or is refused.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/input_files.h"
#include "data/text/text_blocks.h"

namespace bert {

struct TextReaderOptions : TextParsingOptions {
  // Called about once per MiB read: bytes read from the files so far (compressed), and the sum of
  // their sizes (0 if one of them is standard input or a pipe).
  std::function<void(std::uint64_t bytes_read, std::uint64_t bytes_total)> progress;
};

class TextReader {
 public:
  // InputError at once if one of the files is missing, empty or unreadable (see expand_inputs).
  explicit TextReader(const std::vector<std::string>& files, TextReaderOptions options = {});

  // The next line, valid until the next call; none of them is blank. False after the last.
  // InputError naming the file: damaged or truncated compressed data, a named file without any
  // text, UTF-16, refused UTF-8, a malformed record.
  bool next_line(std::string_view& line);

  // The same in steps, for who parses by several threads: each file's blocks, and add() with what
  // became of them, in their order, before the next file.
  bool next_file();  // false after the last
  bool next_block(TextBlock& block);
  void add(const ParsedText& parsed);

  const TextStats& stats() const { return stats_; }

 private:
  const InputFile& file() const { return inputs_.files[files_opened_ - 1]; }
  void report_progress(std::uint64_t step);

  Inputs inputs_;
  TextReaderOptions options_;
  TextStats stats_;
  std::size_t files_opened_ = 0;
  std::optional<TextBlockReader> reader_;  // of the last of them
  std::uint64_t bytes_before_ = 0, bytes_reported_ = 0;
  std::uint64_t line_ends_ = 0, seen_before_ = 0;  // in the file; before it
  TextBlock block_;
  ParsedText parsed_;
  std::size_t next_line_ = 0;  // in parsed_
};

}  // namespace bert
