// Progress of work measured in bytes: a bar on a terminal, a plain line every ten seconds
// otherwise. On standard error, so that standard output stays a program's answer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <unistd.h>

namespace bert {

class ByteProgress {
 public:
  explicit ByteProgress(bool quiet = false) : quiet_(quiet) {}
  ~ByteProgress() { finish(); }
  ByteProgress(const ByteProgress&) = delete;
  ByteProgress& operator=(const ByteProgress&) = delete;

  // `total` 0: unknown. `note` follows the figures.
  void update(std::uint64_t done, std::uint64_t total, std::string_view note) {
    const Clock::time_point now = Clock::now();
    if (quiet_ || now - last_ < (terminal_ ? std::chrono::milliseconds(200) : kPlainInterval)) {
      return;
    }
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double megabytes = static_cast<double>(done) * 1e-6;
    std::string line;
    if (total > 0) {
      const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
      if (terminal_) {
        const auto filled = static_cast<std::size_t>(share * kBarWidth);
        line = "[" + std::string(filled, '=') + std::string(kBarWidth - filled, ' ') + "] ";
      }
      line += fmt::format("{:.0f}% of {:.1f} MB", 100 * share, static_cast<double>(total) * 1e-6);
      if (share > 0) line += fmt::format(", {:.0f} s left", seconds * (1 - share) / share);
    } else {
      line = fmt::format("{:.1f} MB", megabytes);
    }
    line += fmt::format(", {}", note);
    if (terminal_) {
      std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
      open_ = true;
    } else {
      std::fprintf(stderr, "%s\n", line.c_str());
    }
    std::fflush(stderr);
  }
  // Leaves the cursor on a fresh line.
  void finish() {
    if (open_) std::fprintf(stderr, "\r\x1b[K");
    open_ = false;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kPlainInterval{10'000};
  static constexpr std::size_t kBarWidth = 30;

  bool quiet_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool open_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace bert
