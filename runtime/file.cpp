#include "runtime/file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/descriptor.h"
#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

std::string cause() { return std::strerror(errno); }

}  // namespace

std::string read_file(const fs::path& path) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) throw_input_error("cannot read {}: {}", path.string(), cause());
  std::string content;
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = ::read(file.fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_input_error("cannot read {}: {}", path.string(), cause());
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
  }
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content);
  file.commit();
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  std::error_code error;
  const fs::file_status there = fs::status(path_, error);
  const bool device = fs::exists(there) && !fs::is_regular_file(there);
  if (!device && fs::is_symlink(path_, error)) {
    const fs::path target = fs::canonical(path_, error);
    if (error) {
      throw_runtime_error("cannot write {}, a link: {}", path_.string(), error.message());
    }
    path_ = target;
  }
  temporary_ = device ? path_ : fs::path(path_.string() + ".tmp." + std::to_string(::getpid()));
  file_ = std::fopen(temporary_.c_str(), "wb");
  if (file_ == nullptr) throw_runtime_error("cannot write {}: {}", path_.string(), cause());
}

AtomicFile::~AtomicFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  std::error_code ignored;
  if (temporary_ != path_) fs::remove(temporary_, ignored);
}

void AtomicFile::write(const void* data, std::size_t size) {
  if (size > 0 && std::fwrite(data, 1, size, file_) != size) {
    throw_runtime_error("cannot write {}: {}", path_.string(), cause());
  }
}

void AtomicFile::write_at_start(std::string_view text) {
  if (std::fseek(file_, 0, SEEK_SET) != 0) {
    throw_runtime_error("cannot write {}: {}", path_.string(), cause());
  }
  write(text);
}

void AtomicFile::commit() {
  if (temporary_ == path_) {
    if (std::fclose(std::exchange(file_, nullptr)) != 0) {
      throw_runtime_error("cannot write {}: {}", path_.string(), cause());
    }
    return;
  }
  if (std::fflush(file_) != 0 || ::fsync(::fileno(file_)) != 0) {
    throw_runtime_error("cannot write {}: {}", path_.string(), cause());
  }
  if (std::fclose(std::exchange(file_, nullptr)) != 0 ||
      std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const std::string why = cause();
    std::error_code ignored;
    fs::remove(temporary_, ignored);
    throw_runtime_error("cannot write {}: {}", path_.string(), why);
  }
  fsync_directory(path_.parent_path());
}

void fsync_directory(const fs::path& folder) {
  const fs::path target = folder.empty() ? fs::path(".") : folder;
  Descriptor directory{::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  // Some network file systems refuse to sync folders; there is nothing better to do there.
  if (directory.fd < 0 || (::fsync(directory.fd) != 0 && errno != EINVAL)) {
    throw_runtime_error("cannot sync the folder {}: {}", target.string(), cause());
  }
}

void forget_cached_pages(const fs::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd >= 0) (void)::posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
}

void make_directories(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder)) {
    throw_runtime_error("cannot create the folder {}: {}", folder.string(),
                        error ? error.message() : "something else has that name");
  }
}

MappedFile::MappedFile(const fs::path& path) {
  // O_NONBLOCK: a pipe is refused below, not waited for.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat info {};
  if (file.fd < 0 || ::fstat(file.fd, &info) != 0) {
    throw_input_error("cannot open {}: {}", path.string(), cause());
  }
  if (!S_ISREG(info.st_mode)) throw_input_error("{} is not a file", path.string());
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* map = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  if (map == MAP_FAILED) throw_input_error("cannot map {}: {}", path.string(), cause());
  data_ = static_cast<const std::byte*>(map);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release() const {
  if (data_ != nullptr) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace bert
