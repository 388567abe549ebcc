// Text files in blocks: reading is sequential and cheap (TextBlockReader), what is made of a block
// (parse_text_block) is costly and can be done by any thread.
//
// Two formats. Text: a line is a sentence or paragraph, a blank line ends a document, and so does
// the end of the file. JSON lines: a line is an object and a document; its text is a string field,
// whose lines are the document's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "data/text/byte_source.h"

namespace bert {

enum class TextFormat {
  automatic,  // JSON lines if the file begins like an object: { and ", blanks aside
  text,
  json_lines,
};
std::string_view text_format_name(TextFormat format);  // "auto", "text", "jsonl"
TextFormat parse_text_format(std::string_view name);   // InputError naming the possible values

struct TextParsingOptions {
  TextFormat format = TextFormat::automatic;
  std::string text_field = "text";  // of JSON lines
  // A line that is no object with that field, or is longer than max_record_bytes: false is an
  // InputError naming file and line, true leaves it out and counts it.
  bool skip_malformed = false;
  // Invalid UTF-8: false replaces each maximal invalid part by U+FFFD and counts it, true is an
  // InputError naming file and line.
  bool refuse_invalid_utf8 = false;
  std::size_t min_line_chars = 0;  // shorter lines are left out and counted
  // Memory is bounded by these two. A longer line is cut, at white space where there is some.
  std::size_t max_line_bytes = std::size_t{1} << 20;
  std::size_t max_record_bytes = std::size_t{16} << 20;  // of JSON lines
};

// JSON lines or text, by the first bytes; `file` is named in the InputError for a JSON array.
TextFormat detect_text_format(const std::string& file, std::string_view head);

// Whole lines of a file, or a part of one that is too long.
struct TextBlock {
  std::string bytes;
  TextFormat format = TextFormat::text;
  bool begins_file = false;
  bool begins_in_line = false, ends_in_line = false;
  bool too_long = false;  // the beginning of a record over max_record_bytes, the rest is left out
};

class TextBlockReader {
 public:
  // Bytes [begin, end) of `file`, which begin and end with a line; see ByteSource.
  TextBlockReader(const std::string& file, const TextParsingOptions& options,
                  std::uint64_t begin = 0, std::uint64_t end = ByteSource::kToTheEnd);

  bool next(TextBlock& block);  // false after the last
  std::uint64_t bytes_read() const { return source_.bytes_read(); }

 private:
  bool read_more();
  void take(std::size_t size, TextBlock& block);
  bool next_of_long_line(TextBlock& block);

  ByteSource source_;
  TextParsingOptions options_;
  std::string buffer_;
  bool begins_file_, in_line_ = false, ended_ = false;
};

// What is in a block. Lines are views into it or into `storage`.
struct ParsedText {
  std::vector<std::string_view> lines;     // none of them blank
  std::vector<std::size_t> document_ends;  // k: a document ends before lines[k]
  std::deque<std::string> storage;
  std::uint64_t num_lines = 0;  // also when `lines` are gone
  std::uint64_t bytes = 0;      // of them, without line ends
  std::uint64_t line_ends = 0;  // of the file: how far line numbers advance
  std::uint64_t invalid_utf8 = 0, malformed = 0, cut_lines = 0, short_lines = 0;
  // Line ends before the first of them.
  std::uint64_t first_invalid_utf8 = 0, first_malformed = 0;
  // What is refused ("" for nothing), and the line ends before it.
  std::string refused;
  std::uint64_t refused_at = 0;
};

ParsedText parse_text_block(const TextBlock& block, const TextParsingOptions& options);

// What was read so far.
struct TextStats {
  std::uint64_t files = 0;          // finished
  std::uint64_t lines = 0;          // none of them blank
  std::uint64_t bytes = 0;          // of those lines, without line ends
  std::uint64_t invalid_utf8 = 0;   // parts replaced by U+FFFD
  std::uint64_t malformed = 0;      // JSON lines that were left out
  std::uint64_t short_lines = 0;    // under min_line_chars, left out
  std::uint64_t cut_lines = 0;      // lines over max_line_bytes
  std::uint64_t cut_documents = 0;  // documents that were too long
  std::string first_invalid_utf8;   // "file:line" of the first of them
  std::string first_malformed;      // likewise

  // f(name, member) for each number.
  template <typename Function>
  static void for_each_count(Function f) {
    f("files", &TextStats::files);
    f("lines", &TextStats::lines);
    f("bytes", &TextStats::bytes);
    f("invalid_utf8", &TextStats::invalid_utf8);
    f("malformed", &TextStats::malformed);
    f("short_lines", &TextStats::short_lines);
    f("cut_lines", &TextStats::cut_lines);
    f("cut_documents", &TextStats::cut_documents);
  }
  // Adds what came after: of "first" the earlier stays.
  TextStats& operator+=(const TextStats& later);
  // Adds what parsing counted. `file` and `lines_before` it say where that was. InputError if there
  // was something to refuse.
  void add(const ParsedText& parsed, const std::string& file, std::uint64_t lines_before);
  // Lines that were not blank, those left out too.
  std::uint64_t seen() const { return lines + malformed + short_lines; }
};

// A file that somebody named is expected to hold something: InputError.
[[noreturn]] void throw_blank(const std::string& file);

// A place at or after `position` where a plain file can be cut into two without tearing a document:
// the beginning of a line, in text one after a blank line. The file's size if there is none.
std::uint64_t find_document_boundary(const std::string& file, TextFormat format,
                                     std::uint64_t position);
// Lines of a plain file before byte `end`: only needed to name a line of a later part.
std::uint64_t count_lines_before(const std::string& file, std::uint64_t end);

}  // namespace bert
