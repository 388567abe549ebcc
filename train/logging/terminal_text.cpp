#include "train/logging/terminal_text.h"

#include <algorithm>
#include <iterator>

#include "data/text/unicode.h"

namespace bert {
namespace {

// The ranges of Unicode's EastAsianWidth.txt that are wide or fullwidth, rounded to blocks.
constexpr CodeRange kWide[] = {
    {0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},  {0xA960, 0xA97C}, {0xAC00, 0xD7A3},
    {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF01, 0xFF60},  {0xFFE0, 0xFFE6}, {0x1F300, 0x1F64F},
    {0x1F680, 0x1F6FF}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD}};
// Combining marks and joiners, in the blocks that running text has.
constexpr CodeRange kNarrowest[] = {
    {0x0300, 0x036F}, {0x0483, 0x0489}, {0x0591, 0x05BD}, {0x0610, 0x061A}, {0x064B, 0x065F},
    {0x093C, 0x093C}, {0x0941, 0x0948}, {0x094D, 0x094D}, {0x0E34, 0x0E3A}, {0x0E47, 0x0E4E},
    {0x1AB0, 0x1AFF}, {0x1DC0, 0x1DFF}, {0x200B, 0x200F}, {0x202A, 0x202E}, {0x2060, 0x2064},
    {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}, {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF}};

template <std::size_t N>
bool within(const CodeRange (&ranges)[N], char32_t code) {
  return std::any_of(std::begin(ranges), std::end(ranges), [&](const CodeRange& range) {
    return code >= range.first && code <= range.last;
  });
}

int columns_of(char32_t code) {
  if (within(kNarrowest, code)) return 0;
  return within(kWide, code) ? 2 : 1;
}

std::string_view ellipsis(bool unicode) { return unicode ? "\u2026" : "..."; }

// Bytes of an escape sequence at `at`, 0 where none begins.
std::size_t escape_bytes(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) != "\x1b[") return 0;
  const std::size_t end = text.find('m', at);
  return end == std::string_view::npos ? 0 : end + 1 - at;
}

}  // namespace

int display_columns(std::string_view text) {
  int columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (const std::size_t escape = escape_bytes(text, at); escape > 0) {
      at += escape;
      continue;
    }
    const DecodedChar c = decode_utf8(text, at);
    columns += columns_of(c.code);
    at += c.size;
  }
  return columns;
}

std::string printable(std::string_view text, bool unicode) {
  std::string shown;
  for (std::size_t at = 0; at < text.size();) {
    const DecodedChar c = decode_utf8(text, at);
    at += c.size;
    const bool control =
        c.code < 0x20 || (c.code >= 0x7f && c.code < 0xa0) || c.code == 0x2028 || c.code == 0x2029;
    // Those that turn the direction of writing would turn the rest of the line.
    const bool turns =
        (c.code >= 0x202A && c.code <= 0x202E) || (c.code >= 0x2066 && c.code <= 0x2069);
    if (control || turns) {
      shown += ' ';
    } else if (!c.valid || (!unicode && c.code >= 0x80)) {
      shown += '?';
    } else {
      append_utf8(shown, c.code);
    }
  }
  return shown;
}

std::string cut_end(std::string_view text, int columns, bool unicode) {
  if (display_columns(text) <= columns) return std::string(text);
  const std::string_view mark = ellipsis(unicode);
  const int room = columns - display_columns(mark);
  if (room < 0) return std::string(static_cast<std::size_t>(std::max(columns, 0)), '.');
  std::size_t end = 0;
  for (int used = 0; end < text.size();) {
    const DecodedChar c = decode_utf8(text, end);
    used += columns_of(c.code);
    if (used > room) break;
    end += c.size;
  }
  return std::string(text.substr(0, end)).append(mark);
}

std::string cut_begin(std::string_view text, int columns, bool unicode) {
  int left = display_columns(text);
  if (left <= columns) return std::string(text);
  const std::string_view mark = ellipsis(unicode);
  const int room = columns - display_columns(mark);
  if (room < 0) return std::string(static_cast<std::size_t>(std::max(columns, 0)), '.');
  std::size_t begin = 0;
  while (left > room) {
    const DecodedChar c = decode_utf8(text, begin);
    left -= columns_of(c.code);
    begin += c.size;
  }
  return std::string(mark).append(text.substr(begin));
}

std::string emphasised(std::string_view text, Emphasis emphasis, bool colour) {
  constexpr std::string_view kCodes[] = {"", "1", "2", "32", "31"};
  const std::string_view code = kCodes[static_cast<int>(emphasis)];
  if (!colour || code.empty() || text.empty()) return std::string(text);
  return std::string("\x1b[").append(code).append("m").append(text).append("\x1b[0m");
}

std::vector<std::string> flow(const std::vector<std::string>& fields, int columns, bool unicode) {
  std::vector<std::string> lines;
  int used = 0;
  for (const std::string& field : fields) {
    int width = display_columns(field);
    std::string text = field;
    if (width > columns) {  // without its colours, which might be cut in two
      for (std::size_t at = 0; (at = text.find('\x1b', at)) != std::string::npos;) {
        text.erase(at, std::max<std::size_t>(1, escape_bytes(text, at)));
      }
      text = cut_end(text, columns, unicode);
      width = display_columns(text);
    }
    if (lines.empty() || used + 2 + width > columns) {
      lines.push_back(text);
      used = width;
    } else {
      lines.back() += "  " + text;
      used += 2 + width;
    }
  }
  return lines;
}

}  // namespace bert
