// Text for a terminal: how wide it is, made safe, cut to a width, and put together in fields.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bert {

struct TerminalStyle {
  bool unicode = true;
  bool colour = true;
};

// Columns that `text` (UTF-8) takes on a terminal: two for East Asian wide characters and emoji,
// none for combining ones and for escape sequences that set colours.
int display_columns(std::string_view text);

// One line that does nothing to a terminal but show itself: control characters (those that corpora
// hold as well as escapes) become spaces, invalid bytes and, without `unicode`, whatever is not
// ASCII a question mark.
std::string printable(std::string_view text, bool unicode);

// As much of the beginning or the end as fits; "..." or its one character shows that some is
// missing. For printable text.
std::string cut_end(std::string_view text, int columns, bool unicode);
std::string cut_begin(std::string_view text, int columns, bool unicode);

enum class Emphasis { none, strong, faint, good, bad };
std::string emphasised(std::string_view text, Emphasis emphasis, bool colour);

// Fields two spaces apart, as many on a line as fit, whole; a field wider than a line is cut.
std::vector<std::string> flow(const std::vector<std::string>& fields, int columns, bool unicode);

}  // namespace bert
