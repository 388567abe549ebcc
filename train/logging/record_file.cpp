#include "train/logging/record_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/plural.h"

namespace bert {

RecordFile::RecordFile(std::filesystem::path path, Warn warn)
    : path_(std::move(path)), warn_(std::move(warn)) {
  if (!warn_) {
    warn_ = [](const std::string& text) { std::fprintf(stderr, "warning: %s\n", text.c_str()); };
  }
  open();
}

void RecordFile::open() {
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  struct stat status {};
  if (file_ < 0 || ::fstat(file_, &status) != 0) {
    throw_runtime_error("cannot write {}: {}", path_.string(), std::strerror(errno));
  }
  whole_bytes_ = status.st_size;
}

RecordFile::~RecordFile() {
  flush();
  ::close(file_);
}

void RecordFile::reopen(const std::function<bool(const std::string&)>& keeps) {
  ::close(file_);
  open();
  torn_ = false;  // what was torn has been cut off
  std::erase_if(waiting_, [&](const std::string& record) { return !keeps(record); });
  if (waiting_.empty()) failing_ = false;
}

void RecordFile::append(std::string record) {
  waiting_.push_back(std::move(record));
  flush();
}

bool RecordFile::flush() {
  const std::size_t before = waiting_.size();
  while (!waiting_.empty() && write(waiting_.front())) waiting_.pop_front();
  if (!waiting_.empty() && !failing_) {
    failing_ = true;
    warn_(fmt::format("cannot write {}: {}; what is missing is kept in memory and tried again",
                      path_.string(), std::strerror(error_)));
  } else if (waiting_.empty() && failing_) {
    failing_ = false;
    warn_(fmt::format("{} is written again; records that had waited: {}", path_.string(), before));
  }
  return waiting_.empty();
}

void RecordFile::finish() {
  if (flush()) return;
  throw_runtime_error("cannot write {}: {}; it lacks its last {}", path_.string(),
                      std::strerror(error_), plural(waiting_.size(), "record"));
}

bool RecordFile::write(const std::string& record) {
  const auto failed = [this] {
    error_ = errno;
    return false;
  };
  if (torn_ && ::ftruncate(file_, whole_bytes_) != 0) return failed();
  torn_ = false;
  std::size_t written = 0;
  while (written < record.size()) {
    const ssize_t count = ::write(file_, record.data() + written, record.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      failed();
      // At once, and not only before the next attempt: a reader, or a killed run, finds no half.
      torn_ = written > 0 && ::ftruncate(file_, whole_bytes_) != 0;
      return false;
    }
    written += static_cast<std::size_t>(count);
  }
  whole_bytes_ += static_cast<std::int64_t>(record.size());
  return true;
}

}  // namespace bert
