#include "data/text/byte_source.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include <archive.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kBufferSize = std::size_t{1} << 18;
constexpr std::size_t kLongestMagic = 6;

struct Compression {
  std::string_view magic, name, extension;
};
constexpr std::array<Compression, 4> kCompressions{{
    {"\x1f\x8b", "gzip", ".gz"},
    {"BZh", "bzip2", ".bz2"},
    {std::string_view("\xfd"
                      "7zXZ\0",
                      6),
     "xz", ".xz"},
    {"\x28\xb5\x2f\xfd", "zstd", ".zst"},
}};

}  // namespace

struct ByteSource::Archive {
  struct archive* handle = archive_read_new();
  std::exception_ptr error;  // of reading the file
  Archive() = default;
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;
  ~Archive() { archive_read_free(handle); }
};

std::string display_name(const std::string& file) { return file == "-" ? "standard input" : file; }

std::string_view compression_of(std::string_view head) {
  for (const Compression& compression : kCompressions) {
    if (head.starts_with(compression.magic)) return compression.name;
  }
  return {};
}

std::string without_compression(const std::string& file) {
  for (const Compression& compression : kCompressions) {
    if (file.ends_with(compression.extension)) {
      return file.substr(0, file.size() - compression.extension.size());
    }
  }
  return file;
}

ByteSource::ByteSource(const std::string& file, std::uint64_t begin, std::uint64_t end, Pace pace)
    : name_(display_name(file)),
      descriptor_(file == "-" ? ::dup(STDIN_FILENO) : ::open(file.c_str(), O_RDONLY | O_CLOEXEC)),
      pace_(pace),
      bytes_left_(end == kToTheEnd ? kToTheEnd : end - begin),
      raw_(kBufferSize) {
  if (descriptor_.fd < 0) throw_input_error("cannot read {}: {}", name_, std::strerror(errno));
  if (begin > 0 && ::lseek(descriptor_.fd, static_cast<off_t>(begin), SEEK_SET) < 0) {
    throw_input_error("cannot read {} from byte {}: {}", name_, begin, std::strerror(errno));
  }
  read_head();
  if (begin > 0) return;  // whoever asks for a part has seen that the file is plain
  if (raw_size_ == 0) throw_input_error("{} is empty: expected UTF-8 text", name_);
  const std::string_view head(raw_.data(), raw_size_);
  compression_ = compression_of(head);
  if (!compression_.empty()) {
    open_archive();
    return;
  }
  for (const Compression& compression : kCompressions) {
    if (std::string_view(file).ends_with(compression.extension)) {
      throw_input_error("{} ends in {} but holds no {} data", name_, compression.extension,
                        compression.name);
    }
  }
  if (head.starts_with("\xff\xfe") || head.starts_with("\xfe\xff")) {
    throw_input_error("{} is UTF-16 text; expected UTF-8: convert it with iconv -f UTF-16 -t UTF-8",
                      name_);
  }
}

ByteSource::~ByteSource() = default;

std::size_t ByteSource::read(char* out, std::size_t size) {
  if (archive_ != nullptr) {
    const la_ssize_t got = archive_read_data(archive_->handle, out, size);
    if (got < 0) throw_unreadable();
    return static_cast<std::size_t>(got);
  }
  if (raw_position_ < raw_size_) {
    const std::size_t got = std::min(size, raw_size_ - raw_position_);
    std::memcpy(out, raw_.data() + raw_position_, got);
    raw_position_ += got;
    return got;
  }
  return fill(out, size);
}

bool ByteSource::would_wait() const {
  if (archive_ != nullptr || raw_position_ < raw_size_) return false;
  pollfd descriptor{descriptor_.fd, POLLIN, 0};
  return ::poll(&descriptor, 1, 0) == 0;
}

// One read of the descriptor; repeated, unless it is read as it comes, until `size` bytes or the
// end: a pipe gives little at once.
std::size_t ByteSource::fill(char* out, std::size_t size) {
  std::size_t total = 0;
  while (total < size) {
    const std::size_t got = read_once(out + total, size - total);
    if (got == 0) break;
    total += got;
    if (pace_ == Pace::as_it_comes) break;
  }
  return total;
}

std::size_t ByteSource::read_once(char* out, std::size_t size) {
  size = static_cast<std::size_t>(std::min<std::uint64_t>(size, bytes_left_));
  ssize_t got = 0;
  do {
    got = ::read(descriptor_.fd, out, size);
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw_input_error("cannot read {}: {}", name_, std::strerror(errno));
  const auto bytes = static_cast<std::size_t>(got);
  bytes_read_ += bytes;
  if (bytes_left_ != kToTheEnd) bytes_left_ -= bytes;
  return bytes;
}

// The first bytes: enough to tell a compression, or a line, which none begins with.
void ByteSource::read_head() {
  while (raw_size_ < kLongestMagic && std::memchr(raw_.data(), '\n', raw_size_) == nullptr) {
    const std::size_t got = fill(raw_.data() + raw_size_, raw_.size() - raw_size_);
    if (got == 0) return;
    raw_size_ += got;
  }
}

void ByteSource::open_archive() {
  archive_ = std::make_unique<Archive>();
  struct archive* a = archive_->handle;
  // Only these four: others (uuencode, rpm, lrzip) would be seen in what is plain text.
  archive_read_support_filter_gzip(a);
  archive_read_support_filter_bzip2(a);
  archive_read_support_filter_xz(a);
  archive_read_support_filter_zstd(a);
  archive_read_support_format_raw(a);
  const auto read_callback = [](struct archive*, void* self, const void** data) -> la_ssize_t {
    auto& source = *static_cast<ByteSource*>(self);
    try {
      if (std::exchange(source.head_given_, true)) {
        source.raw_size_ = source.fill(source.raw_.data(), source.raw_.size());
      }
    } catch (...) {  // no exception may pass through C
      source.archive_->error = std::current_exception();
      return ARCHIVE_FATAL;
    }
    *data = source.raw_.data();
    return static_cast<la_ssize_t>(source.raw_size_);
  };
  if (archive_read_open(a, this, nullptr, read_callback, nullptr) != ARCHIVE_OK) throw_unreadable();
  struct archive_entry* entry = nullptr;
  const int status = archive_read_next_header(a, &entry);
  if (status == ARCHIVE_EOF) throw_input_error("{} is empty once decompressed", name_);
  if (status != ARCHIVE_OK) throw_unreadable();
  // It would hand out as they are data whose header it does not accept.
  if (archive_filter_code(a, 0) == ARCHIVE_FILTER_NONE) throw_unreadable();
}

void ByteSource::throw_unreadable() const {
  if (archive_->error) std::rethrow_exception(archive_->error);
  const char* cause = archive_error_string(archive_->handle);
  throw_input_error("{} is damaged or cut short: its {} data cannot be read ({})", name_,
                    compression_, cause != nullptr ? cause : "its header is wrong");
}

}  // namespace bert
