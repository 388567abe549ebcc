// Disks that are full, for one process or for all.
#pragma once

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <utility>

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

namespace bert {

// While one lives, no file of this process grows beyond so many bytes: a write is cut short there,
// and the next one fails, as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    const rlimit limit{.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  void (*signal_)(int);
  rlimit before_{};
};

// While one lives, `folder`, which is made, is a disk of `size`, such as "160k". Not everywhere may
// one be mounted: a test is skipped where missing() says why not.
class SmallDisk {
 public:
  SmallDisk(std::filesystem::path folder, const std::string& size) : folder_(std::move(folder)) {
    std::filesystem::create_directories(folder_);
    if (::mount("tmpfs", folder_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) != 0) {
      missing_ = std::string("a small disk cannot be mounted here: ") + std::strerror(errno);
    }
  }
  ~SmallDisk() {
    if (missing_.empty()) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  const std::string& missing() const { return missing_; }

  std::uint64_t used() const {
    struct statvfs disk {};
    EXPECT_EQ(::statvfs(folder_.c_str(), &disk), 0);
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize;
  }
  // Whether it has that size now: it has not where more is used.
  bool resize(std::uint64_t bytes) const {
    const std::string size = "size=" + std::to_string(bytes);
    return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, size.c_str()) == 0;
  }

 private:
  std::filesystem::path folder_;
  std::string missing_;
};

}  // namespace bert
