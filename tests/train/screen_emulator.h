// A terminal of our own for the tests: it takes what a program writes and knows what its user sees.
// It wraps long lines, scrolls, and on a change of its width wraps anew, as most terminals do. Of
// escape sequences it knows those for moving up, erasing and colours; any other is an error.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bert {

class ScreenEmulator {
 public:
  ScreenEmulator(int columns, int rows) : columns_(columns), rows_(rows), lines_(1) {}

  void write(const std::string& bytes);  // as after the driver of a terminal: "\r\n" for "\n"
  void resize(int columns, int rows);

  // All rows, those that have scrolled off first, up to the cursor's, without blanks at their ends.
  std::vector<std::string> rows() const;
  std::size_t cursor_row() const { return row_; }  // among rows()
  std::size_t cursor_column() const { return column_; }
  bool coloured() const { return coloured_; }  // any colour was set
  bool plain() const { return plain_; }        // no colour is left on
  const std::vector<std::string>& errors() const { return errors_; }

 private:
  struct Row {
    std::u32string cells;
    bool goes_on = false;  // the next row is the same line, wrapped
  };
  void put(char32_t c);
  void escape(const std::string& parameters, char command);
  std::size_t top() const;  // the first row that is on the screen
  void new_row();

  int columns_, rows_;
  std::vector<Row> lines_;
  std::size_t row_ = 0, column_ = 0;
  bool coloured_ = false, plain_ = true;
  std::vector<std::string> errors_;
};

}  // namespace bert
