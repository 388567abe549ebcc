#include "train/logging/terminal_block.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace bert {
namespace {

std::string_view environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// By the name of the locale, which may not be installed here: what counts is the user's terminal.
bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = environment(name);
    if (value.empty()) continue;
    std::string letters;
    for (const unsigned char c : value) {
      if (std::isalnum(c) != 0) letters += static_cast<char>(std::tolower(c));
    }
    return letters.find("utf8") != std::string::npos;
  }
  return false;
}

}  // namespace

TerminalFeatures terminal_features(std::FILE* out) {
  const std::string_view term = environment("TERM");
  return {.live = ::isatty(::fileno(out)) == 1 && !term.empty() && term != "dumb",
          .style = {.unicode = locale_is_utf8(), .colour = environment("NO_COLOR").empty()}};
}

TerminalSize terminal_size(std::FILE* out) {
  winsize size{};
  TerminalSize known;
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0) return known;
  if (size.ws_col > 0) known.columns = size.ws_col;
  if (size.ws_row > 0) known.rows = size.ws_row;
  return known;
}

void TerminalBlock::draw(const std::vector<std::string>& lines) {
  const std::string up = to_first_line();
  lines_ = lines;
  write(up + block());
}

void TerminalBlock::print_above(const std::string& text) {
  write(to_first_line() + "\x1b[J" + text + "\n" + block());
}

// A terminal that has become narrower since has wrapped the lines: they are more rows now.
std::string TerminalBlock::to_first_line() const {
  const int columns = terminal_size(out_).columns;
  int rows = 0;
  for (const std::string& line : lines_) {
    rows += std::max(1, (display_columns(line) + columns - 1) / columns);
  }
  return rows > 0 ? fmt::format("\r\x1b[{}A", rows) : "\r";
}

// Each line is written over the old one and its rest erased, which does not flicker; then what is
// below the last.
std::string TerminalBlock::block() const {
  std::string text;
  for (const std::string& line : lines_) text += line + "\x1b[K\n";
  return text + "\x1b[J";
}

void TerminalBlock::write(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

}  // namespace bert
