// Progress: plain lines where there is no terminal, and on a pseudo terminal a view that an
// emulated screen shows as it should be.
#include "train/logging/progress.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/train/screen_emulator.h"

namespace bert {
namespace {

ProgressState state_at(std::int64_t step, double loss) {
  ProgressState state;
  state.step = step;
  state.loss = loss;
  state.learning_rate = 1e-4;
  state.grad_norm = 0.5;
  state.tokens_per_second = 1000;
  return state;
}

void set_environment(const char* term, const char* locale, const char* no_color) {
  for (const auto& [name, value] :
       {std::pair{"TERM", term}, {"LC_ALL", locale}, {"NO_COLOR", no_color}}) {
    if (value == nullptr) {
      ::unsetenv(name);
    } else {
      ::setenv(name, value, 1);
    }
  }
}

// A file is no terminal: plain lines, as many as the interval lets through, and the last.
TEST(Progress, PlainLinesAreRateLimited) {
  set_environment("xterm", "C.UTF-8", nullptr);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
  {
    Progress progress(file.get(), 10, 20, std::chrono::hours(1));
    progress.start();
    for (int step = 11; step <= 20; ++step) progress.update(state_at(step, 1.0));
    progress.message("a message");
    progress.detail("a detail");
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
  ASSERT_EQ(lines.size(), 5u) << text;
  EXPECT_EQ(lines[0], "computing step 11 of 20");
  EXPECT_TRUE(lines[1].starts_with("step 11/20 (55.0%)  loss 1.000  ppl 2.7")) << lines[1];
  EXPECT_EQ(lines[2], "a message");
  EXPECT_EQ(lines[3], "a detail");
  EXPECT_TRUE(lines[4].starts_with("step 20/20 (100.0%)")) << lines[4];
  EXPECT_TRUE(lines[4].ends_with("ETA 0s")) << lines[4];
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

// What a user of a terminal sees.
class TerminalTest : public testing::Test {
 protected:
  void open(int columns, int rows, const char* term = "xterm", const char* locale = "C.UTF-8",
            const char* no_color = nullptr) {
    set_environment(term, locale, no_color);
    master_ = ::posix_openpt(O_RDWR | O_NOCTTY);
    if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0) {
      GTEST_SKIP() << "no pseudo-terminal here";
    }
    slave_ = ::fdopen(::open(::ptsname(master_), O_RDWR | O_NOCTTY), "w");
    ASSERT_NE(slave_, nullptr);
    ASSERT_EQ(::fcntl(master_, F_SETFL, O_NONBLOCK), 0);
    screen_.emplace(columns, rows);
    set_size(columns, rows);
  }
  void TearDown() override {
    progress_.reset();
    if (slave_ != nullptr) std::fclose(slave_);
    if (master_ >= 0) ::close(master_);
    if (screen_) {
      EXPECT_EQ(screen_->errors(), std::vector<std::string>{});
    }
  }
  void start(std::int64_t max_steps) { progress_.emplace(slave_, 0, max_steps); }
  void resize(int columns, int rows) {
    see();
    screen_->resize(columns, rows);
    set_size(columns, rows);
  }
  std::vector<std::string> see() {
    char buffer[4096];
    for (ssize_t count; (count = ::read(master_, buffer, sizeof buffer)) > 0;) {
      screen_->write({buffer, static_cast<std::size_t>(count)});
    }
    return screen_->rows();
  }
  // Whatever the rate limit says.
  void update(std::int64_t step, double loss) {
    std::this_thread::sleep_for(std::chrono::milliseconds(210));
    progress_->update(state_at(step, loss));
  }
  void expect_clean_end() {
    const std::vector<std::string> rows = see();
    EXPECT_EQ(screen_->cursor_column(), 0u);
    EXPECT_EQ(screen_->cursor_row(), rows.size() - 1);
    EXPECT_EQ(rows.back(), "");
    EXPECT_TRUE(screen_->plain());
  }
  static int count(const std::vector<std::string>& rows, const std::string& part) {
    return static_cast<int>(std::count_if(rows.begin(), rows.end(), [&](const std::string& row) {
      return row.find(part) != std::string::npos;
    }));
  }

  int master_ = -1;
  std::FILE* slave_ = nullptr;
  std::optional<ScreenEmulator> screen_;
  std::optional<Progress> progress_;

 private:
  void set_size(int columns, int rows) {
    winsize size{};
    size.ws_col = static_cast<unsigned short>(columns);
    size.ws_row = static_cast<unsigned short>(rows);
    ASSERT_EQ(::ioctl(master_, TIOCSWINSZ, &size), 0);
  }
};

TEST_F(TerminalTest, TheViewIsRedrawnInPlaceWithMessagesAbove) {
  open(100, 24);
  if (IsSkipped()) return;
  start(4);
  progress_->start();
  EXPECT_EQ(see(), (std::vector<std::string>{"computing step 1 of 4", ""}));
  update(1, 4.0);
  EXPECT_EQ(see().size(), 3u);  // two lines and the cursor's
  EXPECT_TRUE(see()[0].starts_with("step 1/4  25.0 %  [==========>")) << see()[0];
  EXPECT_TRUE(see()[1].starts_with("loss 4.000  mean 4.000  ppl 54.6")) << see()[1];
  progress_->message("a message\nof two lines");
  progress_->detail("not shown");
  progress_->set_validation({.step = 2,
                             .loss = 3.5,
                             .standard_error = {},
                             .accuracy = {},
                             .best_loss = 3.5,
                             .best_step = 2});
  update(2, 3.0);
  std::vector<std::string> rows = see();
  ASSERT_EQ(rows.size(), 7u);
  EXPECT_EQ(rows[0], "a message");
  EXPECT_EQ(rows[1], "of two lines");
  EXPECT_TRUE(rows[2].starts_with("step 2/4")) << rows[2];
  EXPECT_EQ(rows[4], "4.00 \u2588\u2581 3.00");
  EXPECT_EQ(rows[5], "validation at 2:  loss 3.5000  ppl 33.1  the best so far");
  expect_clean_end();
  EXPECT_TRUE(screen_->coloured());
  progress_->update(state_at(3, 2.0));  // at once: too early to be drawn
  EXPECT_EQ(see(), rows);
  progress_->update(state_at(4, 1.0));
  progress_->finish();
  progress_.reset();
  rows = see();
  ASSERT_EQ(rows.size(), 7u);
  EXPECT_TRUE(rows[2].starts_with("step 4/4  100.0 %")) << rows[2];
  EXPECT_EQ(count(rows, "step "), 1);
  expect_clean_end();
}

TEST_F(TerminalTest, FollowsTheSizeOfItsTerminal) {
  open(100, 24);
  if (IsSkipped()) return;
  start(1000);
  for (int i = 1; i < 60; ++i) progress_->add_loss(i, 10.0 / i);
  progress_->set_words({{"the cat sat on the ", "mat", " and looked at the moon", {{"mat", 0.9}}}});
  update(100, 4.0);
  progress_->message("above");
  EXPECT_EQ(see().size(), 6u);
  for (const auto& [columns, rows] : {std::pair{40, 24},
                                      {120, 24},
                                      {23, 24},
                                      {15, 9},
                                      {80, 3},
                                      {70, 2},
                                      {3, 3},
                                      {1, 1},
                                      {100, 30}}) {
    SCOPED_TRACE(fmt::format("{} x {}", columns, rows));
    resize(columns, rows);
    update(columns, 4.0);
    update(columns + 1, 4.0);
    const std::vector<std::string> all = see();
    for (const std::string& row : all) EXPECT_LE(display_columns(row), columns);
    expect_clean_end();
    if (columns >= 15) {  // one view, of the last update
      EXPECT_EQ(count(all, fmt::format("{}/1", columns + 1)), 1) << all[0];
      EXPECT_EQ(count(all, fmt::format("{}/1", columns)), 0);
      if (rows > 3) {
        EXPECT_EQ(all[0], "above");
      }
    }
  }
}

TEST_F(TerminalTest, WhatEndsTheProgramFindsTheTerminalClean) {
  open(60, 24);
  if (IsSkipped()) return;
  start(10);
  update(1, 4.0);
  expect_clean_end();  // no more is needed, not even a destructor
  std::fprintf(slave_, "error: the disk is full\n");
  std::fflush(slave_);
  const std::vector<std::string> rows = see();
  EXPECT_EQ(rows[rows.size() - 2], "error: the disk is full");
  EXPECT_TRUE(rows[0].starts_with("step 1/10"));
}

TEST_F(TerminalTest, NoColorAndOldLocales) {
  open(100, 24, "xterm", "C", "1");
  if (IsSkipped()) return;
  start(10);
  progress_->set_words({{"d\u00e9j\u00e0 ", "vu", "", {{"\u732b", 0.5}}}});
  update(1, 4.0);
  update(2, 2.0);
  const std::vector<std::string> rows = see();
  EXPECT_FALSE(screen_->coloured());
  EXPECT_EQ(rows[2], "4.00 #_ 2.00");
  EXPECT_TRUE(rows[3].starts_with("d?j? [vu]")) << rows[3];
  EXPECT_TRUE(rows[3].ends_with("? 50%")) << rows[3];
}

TEST_F(TerminalTest, ADumbTerminalGetsPlainLines) {
  for (const char* term : {"dumb", static_cast<const char*>(nullptr)}) {
    open(100, 24, term);
    if (IsSkipped()) return;
    start(10);
    update(1, 4.0);
    progress_->message("a message");
    progress_->finish();
    const std::vector<std::string> rows = see();
    EXPECT_TRUE(rows[0].starts_with("step 1/10 (10.0%)  loss 4.000")) << rows[0];
    EXPECT_EQ(rows[1], "a message");
    TearDown();
    slave_ = nullptr;
    master_ = -1;
  }
}

TEST(TerminalFeatures, TheFirstLocaleThatIsSetCounts) {
  ::setenv("LANG", "en_US.UTF-8", 1);
  set_environment("xterm", nullptr, nullptr);
  ::unsetenv("LC_CTYPE");
  EXPECT_TRUE(terminal_features(stdout).style.unicode);
  ::setenv("LC_CTYPE", "de_DE.utf8", 1);
  EXPECT_TRUE(terminal_features(stdout).style.unicode);
  ::setenv("LC_ALL", "C", 1);
  EXPECT_FALSE(terminal_features(stdout).style.unicode);
  ::setenv("NO_COLOR", "", 1);  // empty counts as absent: no-color.org
  EXPECT_TRUE(terminal_features(stdout).style.colour);
}

}  // namespace
}  // namespace bert
