#include "tests/train/screen_emulator.h"

#include <algorithm>

#include "data/text/unicode.h"
#include "train/logging/terminal_text.h"

namespace bert {

std::size_t ScreenEmulator::top() const {
  const auto height = static_cast<std::size_t>(rows_);
  return lines_.size() > height ? lines_.size() - height : 0;
}

void ScreenEmulator::new_row() {
  if (++row_ == lines_.size()) lines_.emplace_back();
}

void ScreenEmulator::put(char32_t c) {
  const int width = display_columns(to_utf8({&c, 1}));
  if (width == 0) return;
  if (column_ + static_cast<std::size_t>(width) > static_cast<std::size_t>(columns_)) {
    lines_[row_].goes_on = true;
    new_row();
    lines_[row_].cells.clear();
    column_ = 0;
  }
  std::u32string& cells = lines_[row_].cells;
  if (cells.size() < column_ + static_cast<std::size_t>(width)) {
    cells.resize(column_ + static_cast<std::size_t>(width), U' ');
  }
  cells[column_] = c;
  if (width == 2) cells[column_ + 1] = U'\0';  // the second half of a wide character
  column_ += static_cast<std::size_t>(width);
}

void ScreenEmulator::escape(const std::string& parameters, char command) {
  const std::size_t number = parameters.empty() ? 1 : std::stoul(parameters);
  switch (command) {
    case 'A':
      row_ -= std::min(number, row_ - top());  // the screen's first row is the end
      break;
    case 'K':
    case 'J':
      if (!parameters.empty()) errors_.push_back("erases " + parameters);
      lines_[row_].cells.resize(std::min(column_, lines_[row_].cells.size()));
      lines_[row_].goes_on = false;
      if (command == 'J') lines_.resize(row_ + 1);
      break;
    case 'm':
      plain_ = parameters == "0";
      coloured_ = coloured_ || !plain_;
      break;
    default:
      errors_.push_back(std::string("escape sequence ") + command);
  }
}

void ScreenEmulator::write(const std::string& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    if (bytes[at] == '\x1b') {
      std::size_t end = at + 2;
      while (end < bytes.size() && bytes[end] >= 0x20 && bytes[end] < 0x40) ++end;
      if (bytes[at + 1] != '[' || end >= bytes.size()) {
        errors_.push_back("a broken escape sequence");
        return;
      }
      escape(bytes.substr(at + 2, end - at - 2), bytes[end]);
      at = end + 1;
      continue;
    }
    const DecodedChar c = decode_utf8(bytes, at);
    at += c.size;
    if (c.code == U'\r') {
      column_ = 0;
    } else if (c.code == U'\n') {
      new_row();
    } else if (c.code < 0x20 || !c.valid) {
      errors_.push_back("character " + std::to_string(static_cast<unsigned>(c.code)));
    } else {
      put(c.code);
    }
  }
}

void ScreenEmulator::resize(int columns, int rows) {
  const auto width = static_cast<std::size_t>(columns);
  std::vector<Row> wrapped;
  std::size_t new_row = 0, new_column = 0;
  for (std::size_t first = 0; first < lines_.size();) {
    std::u32string line;
    std::size_t last = first, cursor = std::u32string::npos;
    for (;; ++last) {
      if (last == row_) cursor = line.size() + column_;
      line += lines_[last].cells;
      if (!lines_[last].goes_on || last + 1 == lines_.size()) break;
    }
    if (cursor != std::u32string::npos) {
      new_row = wrapped.size() + cursor / width;
      new_column = cursor % width;
    }
    std::size_t at = 0;
    do {
      const std::size_t count = std::min(width, line.size() - at);
      wrapped.push_back({line.substr(at, count), at + count < line.size()});
      at += count;
    } while (at < line.size());
    first = last + 1;
  }
  lines_ = std::move(wrapped);
  columns_ = columns;
  rows_ = rows;
  row_ = std::min(new_row, lines_.size() - 1);
  column_ = new_column;
}

std::vector<std::string> ScreenEmulator::rows() const {
  std::vector<std::string> rows;
  for (const Row& row : lines_) {
    std::string text;
    for (const char32_t c : row.cells) {
      if (c != U'\0') append_utf8(text, c);
    }
    while (!text.empty() && text.back() == ' ') text.pop_back();
    rows.push_back(text);
  }
  return rows;
}

}  // namespace bert
