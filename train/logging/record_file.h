// A file that grows record by record while something long runs. A disk that is full does not end
// the run: what cannot be written waits in memory, in order, and is tried again.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <string>

namespace bert {

class RecordFile {
 public:
  using Warn = std::function<void(const std::string&)>;

  // Opens `path` for appending, or makes it; RuntimeError if it cannot. `warn` is told when writing
  // begins to fail, with the cause, and when it works again; by default standard error is.
  explicit RecordFile(std::filesystem::path path, Warn warn = {});
  ~RecordFile();  // tries a last time
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  // Adds a record (a line with its newline, or any bytes) and writes all that waits, each in one
  // write, so that a killed run leaves at most one broken record, the last. After a write that
  // failed in the middle the file is cut back to its last whole record.
  void append(std::string record);
  // Tries what waits. Whether nothing waits any more.
  bool flush();
  // Goes on at the present end of the file, which somebody else has cut or replaced, with those of
  // the waiting records for which `keeps` is true. RuntimeError if it cannot be opened.
  void reopen(const std::function<bool(const std::string&)>& keeps);
  // The same as flush; RuntimeError naming the file, how many records are missing and why.
  void finish();

  std::size_t waiting() const { return waiting_.size(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  void open();
  bool write(const std::string& record);

  std::filesystem::path path_;
  Warn warn_;
  int file_ = -1;
  std::int64_t whole_bytes_ = 0;  // of the file, up to the end of the last whole record
  bool torn_ = false;             // there are bytes behind them
  bool failing_ = false;
  int error_ = 0;  // errno of the last failure
  std::deque<std::string> waiting_;
};

}  // namespace bert
