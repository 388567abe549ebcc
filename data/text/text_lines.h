// TextLines: the lines of files or of standard input, one after the other as they come: a pipe or a
// terminal that gives a line at a time gets its answer to each.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "data/text/byte_source.h"

namespace bert {

struct TextLine {
  std::string text;  // valid UTF-8
  std::string file;
  std::uint64_t number = 0;  // from 1
  std::string malformed;     // why it is no object with that field; "": it is one, or plain text

  std::string place() const { return fmt::format("{}:{}", file, number); }
};

class TextLines {
 public:
  static constexpr std::size_t kMostLineBytes = std::size_t{16} << 20;

  // `files`: plain or compressed, "-" is standard input; the next one is opened when it is needed.
  // With a `text_field` each line is a JSON object that has the text under that name; of a file
  // whose name ends like JSON lines (.jsonl, .ndjson) it is "text" if not given.
  TextLines(std::vector<std::string> files, std::string text_field);

  // The next line, waiting for it; nothing after the last. Line ends and a byte order mark are
  // dropped. Plain text: blank lines are lines too. JSON lines: they are passed over. InputError
  // naming file and line: a file that cannot be read (as ByteSource), a line over kMostLineBytes.
  std::optional<TextLine> next();
  // Whether next() has its answer without waiting: for a line, or for who writes into the next
  // file.
  bool ready();

  std::uint64_t invalid_utf8() const { return invalid_utf8_; }  // parts replaced by U+FFFD

 private:
  bool reach_line(bool may_wait);
  bool has_line();
  void open();
  void read_more();
  std::string take_line();
  void decode(TextLine& line);

  std::vector<std::string> files_;
  std::string text_field_;
  std::size_t opened_ = 0;  // files
  std::unique_ptr<ByteSource> source_;
  std::string field_;   // of the file that is open; "": plain text
  std::string buffer_;  // from taken_ on: read and not handed out
  std::size_t taken_ = 0;
  bool ended_ = false;  // the file that is open
  std::uint64_t number_ = 0, invalid_utf8_ = 0;
};

}  // namespace bert
