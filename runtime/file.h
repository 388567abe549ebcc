// Files: read whole, memory-mapped, and written so that no reader ever sees half of one.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

namespace bert {

// The whole file. InputError if it cannot be read.
std::string read_file(const std::filesystem::path& path);

// Writes `content` to a temporary file beside `path`, fsyncs it and renames it over `path`.
// RuntimeError naming path and cause (disk full, no permission) if it fails; `path` is then as it
// was before.
void write_file_atomic(const std::filesystem::path& path, std::string_view content);

// The same for content that is written piece by piece. Without commit() nothing is left behind.
// A link is followed. What is there and no file (/dev/null, a pipe) is written to as it is: a rename
// would put a file in its place.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Over what was written first; no more than that. Nothing is written after it.
  void write_at_start(std::string_view text);
  void commit();  // fsync, rename, fsync of the folder

 private:
  std::filesystem::path path_, temporary_;
  std::FILE* file_ = nullptr;
};

// Makes a rename or a new entry in `folder` durable.
void fsync_directory(const std::filesystem::path& folder);

// Lets the system forget its copy of a file that has been synced, so that the next to read it reads
// the disk. Where it will not, nothing happens.
void forget_cached_pages(const std::filesystem::path& path);

// mkdir -p; RuntimeError naming the folder and the cause.
void make_directories(const std::filesystem::path& folder);

// A read-only memory map of a whole file. InputError if it cannot be opened.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  // Lets go of the memory behind the pages touched so far; they can be touched again. Only for a
  // process that reads through large files and would count as large itself.
  void release() const;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace bert
