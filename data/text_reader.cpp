#include "data/text_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include <archive.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/unicode.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kBufferSize = std::size_t{1} << 18;
constexpr std::uint64_t kProgressStep = std::uint64_t{1} << 20;

struct Descriptor {
  int fd = -1;
  Descriptor() = default;
  explicit Descriptor(int file) : fd(file) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd > 0) ::close(fd);  // 0 is standard input, which is not ours
  }
};

std::string display_name(const std::string& file) { return file == "-" ? "standard input" : file; }

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

// The bytes of one file, decompressed where it is compressed.
class ByteSource {
 public:
  ByteSource(const std::string& file, std::uint64_t& bytes_read)
      : name_(display_name(file)),
        file_(file == "-" ? 0 : ::open(file.c_str(), O_RDONLY | O_CLOEXEC)),
        bytes_read_(bytes_read),
        raw_(kBufferSize) {
    if (file_.fd < 0) throw_input_error("cannot read {}: {}", name_, std::strerror(errno));
    raw_size_ = fill(raw_.data(), raw_.size());
    if (raw_size_ == 0) throw_input_error("{} is empty: expected UTF-8 text", name_);
    const std::string_view head(raw_.data(), raw_size_);
    for (const Compression& compression : kCompressions) {
      if (head.starts_with(compression.magic)) {
        open_archive(compression);
        return;
      }
      if (std::string_view(file).ends_with(compression.extension)) {
        throw_input_error("{} ends in {} but holds no {} data", name_, compression.extension,
                          compression.name);
      }
    }
    if (head.starts_with("\xff\xfe") || head.starts_with("\xfe\xff")) {
      throw_input_error(
          "{} is UTF-16 text; expected UTF-8: convert it with iconv -f UTF-16 -t UTF-8", name_);
    }
  }

  // Fills `out` as far as the file reaches; 0 at its end.
  std::size_t read(char* out, std::size_t size) {
    if (archive_ != nullptr) {
      const la_ssize_t got = archive_read_data(archive_.get(), out, size);
      if (got < 0) throw_damaged();
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

 private:
  struct FreeArchive {
    void operator()(struct archive* archive) const { archive_read_free(archive); }
  };

  // One read of the descriptor, repeated until `size` bytes or the end: a pipe gives little at once
  // and the magic numbers need a few bytes.
  std::size_t fill(char* out, std::size_t size) {
    std::size_t total = 0;
    while (total < size) {
      const ssize_t got = ::read(file_.fd, out + total, size - total);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw_input_error("cannot read {}: {}", name_, std::strerror(errno));
      if (got == 0) break;
      total += static_cast<std::size_t>(got);
    }
    bytes_read_ += total;
    return total;
  }

  void open_archive(const Compression& compression) {
    compression_ = compression.name;
    archive_.reset(archive_read_new());
    struct archive* a = archive_.get();
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
      } catch (const std::exception&) {
        return ARCHIVE_FATAL;  // no exception may pass through C
      }
      *data = source.raw_.data();
      return static_cast<la_ssize_t>(source.raw_size_);
    };
    if (archive_read_open(a, this, nullptr, read_callback, nullptr) != ARCHIVE_OK) throw_damaged();
    struct archive_entry* entry = nullptr;
    const int status = archive_read_next_header(a, &entry);
    if (status == ARCHIVE_EOF) throw_input_error("{} is empty once decompressed", name_);
    if (status != ARCHIVE_OK) throw_damaged();
    // It would hand out as they are data whose header it does not accept.
    if (archive_filter_code(a, 0) == ARCHIVE_FILTER_NONE) throw_damaged();
  }

  [[noreturn]] void throw_damaged() {
    const char* cause = archive_error_string(archive_.get());
    throw_input_error("{} is damaged or cut short: its {} data cannot be read ({})", name_,
                      compression_, cause != nullptr ? cause : "its header is wrong");
  }

  std::string name_;
  Descriptor file_;
  std::uint64_t& bytes_read_;
  std::vector<char> raw_;
  std::size_t raw_size_ = 0, raw_position_ = 0;
  bool head_given_ = false;
  std::string_view compression_;
  std::unique_ptr<struct archive, FreeArchive> archive_;
};

bool is_blank(std::string_view line) {
  return std::all_of(line.begin(), line.end(),
                     [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); });
}

// Where to cut a line of more than `limit` bytes: after its last white space before that, else
// before the character that would be torn.
std::size_t cut_position(std::string_view line, std::size_t limit) {
  const std::size_t space = line.substr(0, limit).find_last_of(" \t");
  if (space != std::string_view::npos && space > 0) return space + 1;
  std::size_t cut = limit;
  while (cut > 1 && limit - cut < 4 && (static_cast<unsigned char>(line[cut]) & 0xC0) == 0x80) {
    --cut;
  }
  return cut;
}

}  // namespace

struct TextReader::Impl {
  std::vector<std::string> files;
  TextReaderOptions options;
  TextStats stats;
  std::size_t next_file = 0;
  std::unique_ptr<ByteSource> source;
  std::string file_name;
  std::uint64_t line_number = 0, lines_before = 0;
  bool file_ended = false;
  std::uint64_t bytes_read = 0, bytes_total = 0, bytes_reported = 0;
  // buffer[begin, end) has been read and not yet been handed out.
  std::vector<char> buffer;
  std::size_t begin = 0, end = 0;

  void check_files() {
    if (files.empty()) throw_input_error("no input file is given");
    bool sized = true;
    for (const std::string& file : files) {
      if (file == "-") {
        sized = false;
        continue;
      }
      struct stat info {};
      if (::stat(file.c_str(), &info) != 0 || ::access(file.c_str(), R_OK) != 0) {
        throw_input_error("cannot read {}: {}", file, std::strerror(errno));
      }
      if (S_ISDIR(info.st_mode)) {
        throw_input_error("{} is a folder; expected text files: name them one by one", file);
      }
      if (!S_ISREG(info.st_mode)) {
        sized = false;
      } else if (info.st_size == 0) {
        throw_input_error("{} is empty: expected UTF-8 text", file);
      }
      bytes_total += static_cast<std::uint64_t>(info.st_size);
    }
    if (!sized) bytes_total = 0;
  }

  void report_progress(bool at_end) {
    if (!options.progress) return;
    if (!at_end && bytes_read < bytes_reported + kProgressStep) return;
    bytes_reported = bytes_read;
    options.progress(bytes_read, bytes_total);
  }

  bool open_next_file() {
    if (next_file == files.size()) return false;
    const std::string& file = files[next_file++];
    source = std::make_unique<ByteSource>(file, bytes_read);
    file_name = display_name(file);
    file_ended = false;
    line_number = 0;
    lines_before = stats.lines;
    begin = end = 0;
    return true;
  }

  void close_file() {
    source.reset();
    if (stats.lines == lines_before) {
      throw_input_error("{} holds no text, only blank lines", file_name);
    }
    ++stats.files;
  }

  // Makes room and reads on; false at the end of the file.
  bool read_more() {
    if (file_ended) return false;
    if (begin > 0) {
      std::memmove(buffer.data(), buffer.data() + begin, end - begin);
      end -= begin;
      begin = 0;
    }
    if (buffer.size() < end + kBufferSize) buffer.resize(end + kBufferSize);
    const std::size_t got = source->read(buffer.data() + end, kBufferSize);
    report_progress(false);
    end += got;
    file_ended = got == 0;
    return got > 0;
  }

  // The next line of the open file, without its end; it stays valid until the next call.
  bool next_line(std::string_view& line, bool& cut) {
    std::size_t searched = 0;
    cut = false;
    while (true) {
      std::string_view have(buffer.data() + begin, end - begin);
      const std::size_t newline = have.find('\n', searched);
      std::size_t length = newline, consumed = newline + 1;
      if (newline == std::string_view::npos) {
        searched = have.size();
        if (have.size() <= options.max_line_bytes) {
          if (read_more()) continue;
          have = {buffer.data() + begin, end - begin};  // the buffer may have moved
          if (have.empty()) return false;
          length = consumed = have.size();
        }
      }
      if (length > options.max_line_bytes) {
        length = consumed = cut_position(have, options.max_line_bytes);
        cut = true;
      }
      line = have.substr(0, length);
      begin += consumed;
      return true;
    }
  }

  // `line` as it is handed out, or nothing if it is blank.
  bool clean_line(std::string_view line, std::string& result) {
    if (line_number == 1 && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (is_blank(line)) return false;
    if (is_valid_utf8(line)) {
      result.assign(line);
      return true;
    }
    if (options.refuse_invalid_utf8) {
      throw_input_error(
          "{}:{}: not valid UTF-8; convert the file with iconv -t UTF-8, or allow the "
          "invalid bytes to be replaced by U+FFFD",
          file_name, line_number);
    }
    if (stats.invalid_utf8 == 0) {
      stats.first_invalid_utf8 = fmt::format("{}:{}", file_name, line_number);
    }
    result = replace_invalid_utf8(line, stats.invalid_utf8);
    return true;
  }

  bool next_document(std::vector<std::string>& lines) {
    lines.clear();
    std::size_t document_bytes = 0;
    std::string cleaned;
    std::string_view line;
    while (true) {
      if (!source && !open_next_file()) break;
      bool cut = false;
      if (!next_line(line, cut)) {
        close_file();
        if (!lines.empty()) break;
        continue;
      }
      if (!continued_line) ++line_number;
      const bool continuation = std::exchange(continued_line, cut);
      if (cut && !continuation) ++stats.cut_lines;
      if (!clean_line(line, cleaned)) {
        if (lines.empty() || cut || continuation) continue;
        break;
      }
      ++stats.lines;
      stats.bytes += cleaned.size();
      document_bytes += cleaned.size();
      lines.push_back(std::move(cleaned));
      if (document_bytes >= options.max_document_bytes) {
        ++stats.cut_documents;
        break;
      }
    }
    if (lines.empty()) {
      if (!std::exchange(finished, true)) report_progress(true);
      return false;
    }
    ++stats.documents;
    return true;
  }

  bool continued_line = false, finished = false;
};

TextReader::TextReader(std::vector<std::string> files, TextReaderOptions options)
    : impl_(std::make_unique<Impl>()) {
  BERT_CHECK(options.max_line_bytes >= 16, "lines of at least 16 bytes");
  impl_->files = std::move(files);
  impl_->options = std::move(options);
  impl_->check_files();
}

TextReader::~TextReader() = default;
TextReader::TextReader(TextReader&&) noexcept = default;
TextReader& TextReader::operator=(TextReader&&) noexcept = default;

bool TextReader::next_document(std::vector<std::string>& lines) {
  return impl_->next_document(lines);
}

const TextStats& TextReader::stats() const { return impl_->stats; }

}  // namespace bert
