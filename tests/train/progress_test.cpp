#include "train/progress.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace bert {
namespace {

TEST(ProgressFormat, Durations) {
  EXPECT_EQ(format_duration(0.4), "0s");
  EXPECT_EQ(format_duration(59.4), "59s");
  EXPECT_EQ(format_duration(59.6), "1m00s");
  EXPECT_EQ(format_duration(245), "4m05s");
  EXPECT_EQ(format_duration(3600 * 3 + 60 * 7 + 5), "3h07m");
  EXPECT_EQ(format_duration(86400 * 2 + 3600 * 4), "2d04h");
  EXPECT_EQ(format_duration(-1), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "?");
}

TEST(ProgressFormat, Rates) {
  EXPECT_EQ(format_rate(0), "0");
  EXPECT_EQ(format_rate(812.4), "812");
  EXPECT_EQ(format_rate(999.6), "1.0k");
  EXPECT_EQ(format_rate(8849), "8.8k");
  EXPECT_EQ(format_rate(99960), "100k");
  EXPECT_EQ(format_rate(1.25e6), "1.25M");
  EXPECT_EQ(format_rate(std::nan("")), "?");
}

TEST(ProgressFormat, Perplexities) {
  EXPECT_EQ(format_perplexity(0.0), "1.0");
  EXPECT_EQ(format_perplexity(std::log(57.3)), "57.3");
  EXPECT_EQ(format_perplexity(std::log(30522.0)), "30522");
  EXPECT_EQ(format_perplexity(std::log(1.23e6)), "1.2e+06");
  EXPECT_EQ(format_perplexity(std::nan("")), "-");
  EXPECT_EQ(format_perplexity(1e6), "-");
}

ProgressState some_state() {
  ProgressState state;
  state.step = 1200;
  state.max_steps = 4000;
  state.loss = 4.512;
  state.learning_rate = 9.8e-5;
  state.tokens_per_second = 8812;
  state.eta_seconds = 245;
  return state;
}

TEST(ProgressFormat, Lines) {
  ProgressState state = some_state();
  EXPECT_EQ(format_progress_line(state),
            "step 1200/4000 (30.0%)  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s");
  EXPECT_EQ(
      format_progress_bar(state, 100),
      "[========>                  ] 1200/4000  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  "
      "ETA 4m05s");
  // Too narrow for a bar, then for everything.
  EXPECT_EQ(format_progress_bar(state, 80),
            "1200/4000  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s");
  EXPECT_EQ(format_progress_bar(state, 12), "1200/4000  l");
  for (int columns = 0; columns < 200; ++columns) {
    EXPECT_LE(format_progress_bar(state, columns).size(), static_cast<std::size_t>(columns));
  }
  state.eta_seconds.reset();
  state.step = 4000;
  EXPECT_EQ(format_progress_bar(state, 200),
            "[========================================] 4000/4000  loss 4.512  ppl 91.1  lr "
            "9.80e-05  8.8k tokens/s");
}

// A file is no terminal: plain lines, as many as the interval lets through, and the last.
TEST(Progress, PlainLinesAreRateLimited) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  {
    Progress progress(file.get(), 10, 20, std::chrono::hours(1));
    for (int step = 11; step <= 20; ++step) progress.update(step, 1.0, 1e-4, 1000);
    progress.message("a message");
    progress.finish();
    progress.finish();
  }
  std::rewind(file.get());
  char buffer[4096] = {};
  const std::size_t size = std::fread(buffer, 1, sizeof buffer - 1, file.get());
  const std::string text(buffer, size);
  std::vector<std::string> lines;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    lines.push_back(text.substr(begin, end - begin));
  }
  ASSERT_EQ(lines.size(), 3u) << text;
  EXPECT_TRUE(lines[0].starts_with("step 11/20 (55.0%)  loss 1.000  ppl 2.7")) << lines[0];
  EXPECT_EQ(lines[1], "a message");
  EXPECT_TRUE(lines[2].starts_with("step 20/20 (100.0%)")) << lines[2];
  EXPECT_TRUE(lines[2].ends_with("ETA 0s")) << lines[2];
}

// On a pseudo-terminal: one line that is rewritten, and messages above it.
TEST(Progress, OnATerminalTheLineUpdatesItself) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || ::grantpt(master) != 0 || ::unlockpt(master) != 0) {
    GTEST_SKIP() << "no pseudo-terminal here";
  }
  const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
  ASSERT_GE(slave, 0);
  winsize size{};
  size.ws_col = 101;
  ASSERT_EQ(::ioctl(slave, TIOCSWINSZ, &size), 0);
  std::FILE* out = ::fdopen(slave, "w");
  {
    Progress progress(out, 0, 4);
    progress.update(1, 4.0, 1e-4, 1000);
    progress.message("a message");
    progress.update(4, 2.0, 1e-4, 1000);
    progress.finish();
  }
  std::fclose(out);
  std::string text;
  char buffer[4096];
  for (ssize_t count; (count = ::read(master, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(count));
  }
  ::close(master);

  const auto position = [&](const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " is not in " << text;
    return text.find(part);
  };
  EXPECT_TRUE(text.starts_with("\r[======")) << text;
  EXPECT_LT(position("1/4  loss 4.000"), position("\r\x1b[Ka message\r\n"));
  EXPECT_LT(position("a message"), text.rfind("1/4  loss 4.000"));  // the bar came back
  EXPECT_NE(position("4/4  loss 2.000"), 0u);
  EXPECT_TRUE(text.ends_with("\x1b[K\r\n")) << text;
}

}  // namespace
}  // namespace bert
