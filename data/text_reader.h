// TextReader: documents out of raw text files, read as a stream.
//
// A file is UTF-8 text, plain or compressed by gzip, bzip2, xz or zstd (told by its first bytes);
// "-" is standard input. Compressed data that end too early are an error; changed bytes are one
// where libarchive looks at a checksum (bzip2, xz; not gzip). A blank line ends a document, and so
// does the end of a file. A byte order mark and carriage returns at line ends are dropped; nothing
// else of a line is changed, except that invalid UTF-8 becomes U+FFFD or is refused (see
// TextReaderOptions).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace bert {

struct TextReaderOptions {
  // Invalid UTF-8: false replaces each maximal invalid part by U+FFFD and counts it, true is an
  // InputError naming file and line.
  bool refuse_invalid_utf8 = false;
  // Memory is bounded by these two. A longer line is cut, at white space where there is some; a
  // longer document is handed out in several.
  std::size_t max_line_bytes = std::size_t{1} << 20;
  std::size_t max_document_bytes = std::size_t{64} << 20;
  // Called about once per MiB read: bytes read from the files so far (compressed), and the sum of
  // their sizes (0 if one of them is standard input or a pipe).
  std::function<void(std::uint64_t bytes_read, std::uint64_t bytes_total)> progress;
};

// What was read so far.
struct TextStats {
  std::uint64_t files = 0;          // finished
  std::uint64_t documents = 0;      // handed out
  std::uint64_t lines = 0;          // not blank
  std::uint64_t bytes = 0;          // of the lines handed out, without line ends
  std::uint64_t invalid_utf8 = 0;   // parts replaced by U+FFFD
  std::string first_invalid_utf8;   // "file:line" of the first of them
  std::uint64_t cut_lines = 0;      // lines over max_line_bytes
  std::uint64_t cut_documents = 0;  // documents over max_document_bytes
};

class TextReader {
 public:
  // InputError at once if one of the files is missing, empty, a folder or unreadable.
  explicit TextReader(std::vector<std::string> files, TextReaderOptions options = {});
  ~TextReader();
  TextReader(TextReader&&) noexcept;
  TextReader& operator=(TextReader&&) noexcept;

  // The next document's lines, none of them blank and at least one; false after the last.
  // InputError naming the file: damaged or truncated compressed data, a file without any text,
  // UTF-16, refused UTF-8.
  bool next_document(std::vector<std::string>& lines);

  const TextStats& stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace bert
