// ByteSource: the bytes of one input file, decompressed where it is compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/descriptor.h"

namespace bert {

std::string display_name(const std::string& file);  // "-" is "standard input"

// The name of the compression that data beginning with `head` have ("gzip"), or nothing.
std::string_view compression_of(std::string_view head);

// `file` without the ending of a compressed file: "train.tsv.gz" is named as "train.tsv".
std::string without_compression(const std::string& file);

class ByteSource {
 public:
  static constexpr std::uint64_t kToTheEnd = std::numeric_limits<std::uint64_t>::max();
  // Of a pipe or a terminal: whether it is waited for until a block is full.
  enum class Pace { whole_blocks, as_it_comes };

  // Opens `file` ("-": standard input); plain, or compressed by gzip, bzip2, xz or zstd, told by
  // its first bytes. Of a plain file only bytes [begin, end) are read. InputError naming the file:
  // it cannot be read, is empty, is named as compressed but is not, is UTF-16.
  explicit ByteSource(const std::string& file, std::uint64_t begin = 0,
                      std::uint64_t end = kToTheEnd, Pace pace = Pace::whole_blocks);
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // Fills `out` as far as the file reaches, or with what has come; 0 at its end. InputError:
  // damaged or truncated compressed data. Changed bytes are noticed where libarchive looks at a
  // checksum (bzip2, xz; not gzip).
  std::size_t read(char* out, std::size_t size);
  // Whether read() would wait for whoever writes into a pipe or terminal. Not told of compressed
  // data.
  bool would_wait() const;
  // Bytes of the file itself that were read.
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  struct Archive;
  std::size_t fill(char* out, std::size_t size);
  std::size_t read_once(char* out, std::size_t size);
  void read_head();
  void open_archive();
  [[noreturn]] void throw_unreadable() const;

  std::string name_;
  Descriptor descriptor_;
  Pace pace_;
  std::uint64_t bytes_read_ = 0, bytes_left_ = 0;
  std::vector<char> raw_;
  std::size_t raw_size_ = 0, raw_position_ = 0;
  bool head_given_ = false;
  std::string_view compression_;
  std::unique_ptr<Archive> archive_;
};

}  // namespace bert
