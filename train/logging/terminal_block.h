// A few lines on a terminal that are redrawn in place, with other output scrolling away above them.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "train/logging/terminal_text.h"

namespace bert {

// What the terminal behind `out` can do, by itself and by its environment.
struct TerminalFeatures {
  bool live = false;    // it is a terminal, and one that moves its cursor (TERM)
  TerminalStyle style;  // unicode: the locale's encoding is UTF-8; colour: no NO_COLOR
};
TerminalFeatures terminal_features(std::FILE* out);

struct TerminalSize {
  int columns = 80, rows = 24;
};
TerminalSize terminal_size(std::FILE* out);  // 80 x 24 where it is not known

// After every call the cursor stands at the beginning of the line below the block, so whatever ends
// the program, a signal too, leaves a terminal on which the shell can go on. Each call is one
// write.
class TerminalBlock {
 public:
  explicit TerminalBlock(std::FILE* out) : out_(out) {}

  // Draws `lines`, each narrower than the terminal, over those drawn before.
  void draw(const std::vector<std::string>& lines);
  // Prints `text` above the block, which is drawn again below it.
  void print_above(const std::string& text);

 private:
  std::string to_first_line() const;
  std::string block() const;
  void write(const std::string& text);

  std::FILE* out_;
  std::vector<std::string> lines_;
};

}  // namespace bert
