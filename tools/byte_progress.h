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

  // `total` 0: unknown. `resumed`: bytes that were done before the start, which say nothing about
  // the speed. `note` follows the figures.
  void update(std::uint64_t done, std::uint64_t total, std::string_view note,
              std::uint64_t resumed = 0) {
    if (!due()) return;
    const double megabytes = static_cast<double>(done) * 1e-6;
    std::string line;
    if (total > 0) {
      const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total));
      if (terminal_) {
        const auto filled = static_cast<std::size_t>(share * kBarWidth);
        line = fmt::format("[{:<{}}] ", std::string(filled, '='), kBarWidth);
      }
      line += fmt::format("{:.0f}% of {:.1f} MB", 100 * share, static_cast<double>(total) * 1e-6);
      if (done > resumed && total > done) {
        line += ", " +
                duration(seconds() * static_cast<double>(total - done) /
                         static_cast<double>(done - resumed)) +
                " left";
      }
    } else {
      line = fmt::format("{:.1f} MB", megabytes);
    }
    print(line + fmt::format(", {}", note));
  }
  // The same of work that is not measured in bytes.
  void step(std::string_view name, std::uint64_t done, std::uint64_t total) {
    if (!due()) return;
    const double share = total == 0 ? 0 : static_cast<double>(done) / static_cast<double>(total);
    print(fmt::format("{}: {:.0f}%", name, 100 * share));
  }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  // "42 s", "3:05 min", "2:03 h".
  static std::string duration(double seconds) {
    const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
    if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{}:{:02} min", whole / 60, whole % 60);
    return fmt::format("{}:{:02} h", whole / 3600, whole / 60 % 60);
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

  // Whether it is time to say something again.
  bool due() {
    const Clock::time_point now = Clock::now();
    if (quiet_ || now - last_ < (terminal_ ? std::chrono::milliseconds(200) : kPlainInterval)) {
      return false;
    }
    last_ = now;
    return true;
  }

  void print(const std::string& line) {
    if (terminal_) {
      std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
      open_ = true;
    } else {
      std::fprintf(stderr, "%s\n", line.c_str());
    }
    std::fflush(stderr);
  }

  bool quiet_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  bool open_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_ = start_;
};

}  // namespace bert
