#include "train/checkpoint/run_directory.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/plural.h"
#include "train/checkpoint/checkpoint.h"
#include "train/logging/number_text.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

// Where a folder is, or would be made. InputError for a symbolic link to nothing.
fs::path nearest_existing(const fs::path& folder) {
  std::error_code error;
  for (fs::path path = fs::absolute(folder, error); !path.empty(); path = path.parent_path()) {
    if (fs::exists(path, error) || path == path.parent_path()) return path;
    if (fs::is_symlink(path, error)) {
      throw_input_error("run_dir: {} is a symbolic link to nothing", path.string());
    }
  }
  return "/";
}

// A new file in `folder` that has no name, or no longer; -1 and errno.
int open_unnamed(const fs::path& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return file;
  // A file system that has no such files.
  std::string name = (folder / ".write_probe_XXXXXX").string();
  const int named = ::mkstemp(name.data());
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

// 0, or the errno of what failed.
int try_to_write(const fs::path& folder) {
  const int file = open_unnamed(folder);
  if (file < 0) return errno;
  const char block[4096] = {};
  errno = ENOSPC;  // where less is written and no error given
  int error = ::write(file, block, sizeof block) == static_cast<ssize_t>(sizeof block) ? 0 : errno;
  // Some file systems find their quota only then.
  if (error == 0 && ::fsync(file) != 0) error = errno;
  ::close(file);
  return error;
}

}  // namespace

bool holds_something(const fs::path& run_dir) {
  std::error_code error;  // check_writable names what cannot be read
  return fs::is_directory(run_dir) && !fs::is_empty(run_dir, error) && !error;
}

std::unique_ptr<Descriptor> lock_run_directory(const fs::path& run_dir) {
  constexpr std::chrono::milliseconds kPause{100};
  constexpr int kTries = 50;  // one that was killed may take a moment to be gone
  auto folder =
      std::make_unique<Descriptor>(::open(run_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder->fd < 0) return nullptr;  // check_writable says why
  for (int i = 0; ::flock(folder->fd, LOCK_EX | LOCK_NB) != 0; ++i) {
    if (errno != EWOULDBLOCK) return nullptr;
    if (i == kTries) {
      throw_input_error("run_dir: {} is in use: another run is writing to it", run_dir.string());
    }
    std::this_thread::sleep_for(kPause);
  }
  return folder;
}

void refuse_used_directory(const fs::path& run_dir) {
  if (!holds_something(run_dir)) return;
  throw_input_error(
      "run_dir: {} is not empty; resume it with --resume auto, or name another folder",
      run_dir.string());
}

void check_writable(const fs::path& run_dir) {
  const fs::path there = nearest_existing(run_dir);
  std::error_code error;
  for (const char* inside : {"", "checkpoints", "tensorboard"}) {
    const fs::path folder = *inside == '\0' ? there : run_dir / inside;
    if (!fs::exists(folder, error)) continue;
    if (!fs::is_directory(folder, error)) {
      throw_input_error("run_dir: {} is not a folder", folder.string());
    }
    if (const int failed = try_to_write(folder)) {
      throw_input_error("run_dir: {}: files cannot be written to {}: {}", run_dir.string(),
                        folder.string(), std::strerror(failed));
    }
  }
}

std::optional<std::string> check_disk_space(const fs::path& run_dir, std::int64_t checkpoints,
                                            std::size_t bytes) {
  const fs::path there = nearest_existing(run_dir);
  struct statvfs disk {};
  if (::statvfs(there.c_str(), &disk) != 0) return std::nullopt;  // a file system that cannot tell
  const auto present = static_cast<std::int64_t>(list_checkpoints(run_dir / "checkpoints").size());
  const double needed = static_cast<double>(std::max<std::int64_t>(1, checkpoints - present)) *
                        static_cast<double>(bytes);
  const double available = static_cast<double>(disk.f_bavail) * static_cast<double>(disk.f_frsize);
  const std::string text = fmt::format(
      "run_dir: {}: up to {} of {} at once: {} more are needed, and {} are free on the disk of {}",
      run_dir.string(), plural(static_cast<std::uint64_t>(checkpoints), "checkpoint"),
      format_size(bytes), format_size(static_cast<std::size_t>(needed)),
      format_size(static_cast<std::size_t>(available)), there.string());
  if (needed > available) {
    throw_input_error("{}; keep fewer (checkpoint.keep), or name a folder of another disk", text);
  }
  if (needed > 0.9 * available) return text;
  return std::nullopt;
}

}  // namespace bert
