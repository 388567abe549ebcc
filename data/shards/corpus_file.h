// CorpusFile: an array on disk that notices damage. Every .bin of a prepared corpus is one.
//
//   payload                      elements, little-endian
//   u64 per 1 MiB of payload     XXH3 of that block
//   footer, 64 bytes             magic, kind, sizes, XXH3 of the checksums, XXH3 of the footer
//
// Footer and checksums are verified when the file is opened, a block when it is first touched, so
// that opening a corpus of any size is instant and no unverified byte is ever used. The footer
// comes last: files are written in one pass, and a truncated file has none.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/file.h"

namespace bert {

inline constexpr std::size_t kCorpusBlockBytes = std::size_t{1} << 20;

// 16 hex digits.
std::string hex64(std::uint64_t value);
std::uint64_t hash_bytes(const void* data, std::size_t size, std::uint64_t seed = 0);

// Writes a CorpusFile piece by piece; without commit() nothing is left behind.
class CorpusFileWriter {
 public:
  // `kind` says what the elements are ("tokens"), at most 15 characters; a reader asks for it.
  CorpusFileWriter(std::filesystem::path path, std::string_view kind, std::size_t element_bytes);

  void append(const void* data, std::size_t bytes);
  template <typename T>
  void append_value(const T& value) {
    append(&value, sizeof value);
  }
  // Returns the digest: it changes with any bit of the file.
  std::uint64_t commit();

 private:
  void flush_block();

  AtomicFile file_;
  std::string kind_;
  std::size_t element_bytes_;
  std::vector<std::byte> block_;
  std::vector<std::uint64_t> checksums_;
  std::uint64_t payload_bytes_ = 0;
};

// What the footer of a file says. InputError if the file has none, or a damaged one.
struct CorpusFileInfo {
  std::string kind;
  std::size_t element_bytes = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t digest = 0;
};
CorpusFileInfo corpus_file_info(const std::filesystem::path& path);

// A read-only map of such a file. Thread-safe.
class CorpusFile {
 public:
  CorpusFile() = default;
  // InputError if the file is missing, truncated, damaged, or holds something else than `kind`.
  CorpusFile(const std::filesystem::path& path, std::string_view kind, std::size_t element_bytes);

  std::uint64_t payload_bytes() const { return payload_bytes_; }
  std::uint64_t digest() const { return digest_; }
  const std::filesystem::path& path() const { return path_; }

  // Payload bytes [begin, end), verified. InputError naming the file and the place if a block there
  // is damaged.
  const std::byte* bytes(std::uint64_t begin, std::uint64_t end) const {
    if (begin < end) {
      const std::uint64_t last = (end - 1) / kCorpusBlockBytes;
      for (std::uint64_t block = begin / kCorpusBlockBytes; block <= last; ++block) {
        if (!verified_[block].load(std::memory_order_acquire)) verify_block(block);
      }
    }
    return map_.data() + begin;
  }
  // Reads and checks every block.
  void verify() const;
  // Elements [begin, end) are asked for, and there are none: what names them contradicts this file.
  [[noreturn]] void throw_outside(std::uint64_t begin, std::uint64_t end) const;
  // Lets go of the memory behind the pages touched so far; they can be touched again.
  void release() const { map_.release(); }

 private:
  void verify_block(std::uint64_t block) const;

  std::filesystem::path path_;
  MappedFile map_;
  std::uint64_t payload_bytes_ = 0;
  std::uint64_t digest_ = 0;
  std::vector<std::uint64_t> checksums_;
  std::unique_ptr<std::atomic<bool>[]> verified_;
};

// The same as an array of T. A block holds whole elements (sizeof(T) divides 1 MiB).
template <typename T>
class CorpusArray {
  static_assert(kCorpusBlockBytes % sizeof(T) == 0);

 public:
  CorpusArray() = default;
  CorpusArray(const std::filesystem::path& path, std::string_view kind)
      : file_(path, kind, sizeof(T)) {}

  std::uint64_t size() const { return file_.payload_bytes() / sizeof(T); }
  // InputError where there are no such elements: indices come from other files, which may lie.
  const T& operator[](std::uint64_t i) const { return span(i, i + 1)[0]; }
  std::span<const T> span(std::uint64_t begin, std::uint64_t end) const {
    if (begin > end || end > size()) file_.throw_outside(begin, end);
    const std::byte* bytes = file_.bytes(begin * sizeof(T), end * sizeof(T));
    return {reinterpret_cast<const T*>(bytes), static_cast<std::size_t>(end - begin)};
  }
  const CorpusFile& file() const { return file_; }

 private:
  CorpusFile file_;
};

}  // namespace bert
