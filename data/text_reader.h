// TextReader: documents out of raw text files, read as a stream.
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
#include <memory>
#include <string>
#include <vector>

#include "data/text_blocks.h"

namespace bert {

struct TextReaderOptions : TextParsingOptions {
  // A longer document is handed out in several.
  std::size_t max_document_bytes = std::size_t{64} << 20;
  // Called about once per MiB read: bytes read from the files so far (compressed), and the sum of
  // their sizes (0 if one of them is standard input or a pipe).
  std::function<void(std::uint64_t bytes_read, std::uint64_t bytes_total)> progress;
};

// What was read so far.
struct TextStats {
  std::uint64_t files = 0;          // finished
  std::uint64_t documents = 0;      // handed out
  std::uint64_t lines = 0;          // handed out; none of them blank
  std::uint64_t bytes = 0;          // of the lines handed out, without line ends
  std::uint64_t invalid_utf8 = 0;   // parts replaced by U+FFFD
  std::string first_invalid_utf8;   // "file:line" of the first of them
  std::uint64_t malformed = 0;      // JSON lines that were left out
  std::string first_malformed;      // "file:line" of the first of them
  std::uint64_t short_lines = 0;    // under min_line_chars, left out
  std::uint64_t cut_lines = 0;      // lines over max_line_bytes
  std::uint64_t cut_documents = 0;  // documents over max_document_bytes

  // Adds what came after: of "first" the earlier stays.
  TextStats& operator+=(const TextStats& later);
  // Adds what parsing counted. `file` and `lines_before` it say where that was. InputError if there
  // was something to refuse.
  void add(const ParsedText& parsed, const std::string& file, std::uint64_t lines_before);
};

class TextReader {
 public:
  // InputError at once if one of the files is missing, empty or unreadable (see expand_inputs).
  explicit TextReader(const std::vector<std::string>& files, TextReaderOptions options = {});
  ~TextReader();
  TextReader(TextReader&&) noexcept;
  TextReader& operator=(TextReader&&) noexcept;

  // The next document's lines, none of them blank and at least one; false after the last.
  // InputError naming the file: damaged or truncated compressed data, a named file without any
  // text, UTF-16, refused UTF-8, a malformed record.
  bool next_document(std::vector<std::string>& lines);

  const TextStats& stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bert
