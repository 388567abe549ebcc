#include "data/text/json_record.h"

#include <cstdint>
#include <cstring>

#include <fmt/format.h>

#include "data/text/unicode.h"
#include "runtime/json.h"

namespace bert {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Where the first quote, backslash or control character at or after `position` is.
std::size_t find_special(std::string_view text, std::size_t position) {
  constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;
  const auto has_zero = [](std::uint64_t word) { return (word - kOnes) & ~word & kHighs; };
  for (; position + 8 <= text.size(); position += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + position, 8);
    const std::uint64_t below_space = (word - 0x20 * kOnes) & ~word & kHighs;
    if ((below_space | has_zero(word ^ ('"' * kOnes)) | has_zero(word ^ ('\\' * kOnes))) != 0)
      break;
  }
  while (position < text.size()) {
    const auto c = static_cast<unsigned char>(text[position]);
    if (c < 0x20 || c == '"' || c == '\\') break;
    ++position;
  }
  return position;
}

class Scanner {
 public:
  explicit Scanner(std::string_view record) : record_(record) {}

  std::string run(std::string_view field, std::string& text) {
    bool found = false;
    skip_space();
    if (!take('{')) return "not a JSON object";
    skip_space();
    if (!take('}')) {
      do {
        skip_space();
        if (!string(&key_)) return problem_;
        skip_space();
        if (!take(':')) return fail("a ':' is missing"), problem_;
        skip_space();
        if (key_ == field) {
          found = true;
          if (peek() != '"') {
            return fmt::format("the value of '{}' is not a string", field);
          }
          if (!string(&text)) return problem_;
        } else if (!value(1)) {
          return problem_;
        }
        skip_space();
      } while (take(','));
      if (!take('}')) return fail("a ',' or '}' is missing"), problem_;
    }
    skip_space();
    if (position_ != record_.size()) return fail("something follows the object"), problem_;
    if (!found) return fmt::format("it has no field '{}'", field);
    return "";
  }

 private:
  char peek() const { return position_ < record_.size() ? record_[position_] : '\0'; }
  bool take(char c) {
    if (position_ >= record_.size() || record_[position_] != c) return false;
    ++position_;
    return true;
  }
  void skip_space() {
    while (position_ < record_.size() && std::strchr(" \t\r\n", record_[position_]) != nullptr &&
           record_[position_] != '\0') {
      ++position_;
    }
  }
  bool fail(std::string_view what) {
    problem_ = fmt::format("{} at its byte {}", what, position_ + 1);
    return false;
  }

  // With `out` null the string is only checked.
  bool string(std::string* out) {
    if (!take('"')) return fail("a string is missing");
    if (out != nullptr) out->clear();
    while (true) {
      const std::size_t end = find_special(record_, position_);
      if (out != nullptr) out->append(record_, position_, end - position_);
      position_ = end;
      if (position_ == record_.size()) return fail("a string has no end");
      const char c = record_[position_];
      if (c == '"') {
        ++position_;
        return true;
      }
      if (c != '\\') return fail("a control character in a string");
      ++position_;
      if (!escape(out)) return false;
    }
  }

  bool escape(std::string* out) {
    const char c = peek();
    char32_t code = 0;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        code = static_cast<unsigned char>(c);
        break;
      case 'b':
        code = '\b';
        break;
      case 'f':
        code = '\f';
        break;
      case 'n':
        code = '\n';
        break;
      case 'r':
        code = '\r';
        break;
      case 't':
        code = '\t';
        break;
      case 'u':
        ++position_;
        if (!hex4(code)) return false;
        if (code >= 0xD800 && code < 0xDC00) {
          char32_t low = 0;
          if (!take('\\') || !take('u') || !hex4(low) || low < 0xDC00 || low > 0xDFFF) {
            return fail("half of a surrogate pair");
          }
          code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        } else if (code >= 0xDC00 && code <= 0xDFFF) {
          return fail("half of a surrogate pair");
        }
        if (out != nullptr) append_utf8(*out, code);
        return true;
      default:
        return fail("an unknown escape");
    }
    ++position_;
    if (out != nullptr) append_utf8(*out, code);
    return true;
  }

  bool hex4(char32_t& code) {
    code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      code <<= 4;
      if (is_digit(c)) {
        code |= static_cast<char32_t>(c - '0');
      } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
        code |= static_cast<char32_t>((c | 0x20) - 'a' + 10);
      } else {
        return fail("\\u without four hexadecimal digits");
      }
      ++position_;
    }
    return true;
  }

  // A value that nobody asked for: checked and skipped.
  bool value(int depth) {
    if (depth > kMostJsonDepth) return fail("nested too deep");
    const char c = peek();
    if (c == '"') return string(nullptr);
    if (c == '{' || c == '[') return members(c == '{' ? '}' : ']', depth);
    for (const std::string_view word : {"true", "false", "null"}) {
      if (record_.substr(position_).starts_with(word)) {
        position_ += word.size();
        return true;
      }
    }
    return number();
  }

  bool members(char closing, int depth) {
    ++position_;
    skip_space();
    if (take(closing)) return true;
    do {
      skip_space();
      if (closing == '}') {
        if (!string(nullptr)) return false;
        skip_space();
        if (!take(':')) return fail("a ':' is missing");
        skip_space();
      }
      if (!value(depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take(closing) || fail("a bracket is not closed");
  }

  bool digits() {
    if (!is_digit(peek())) return fail("a value is missing or malformed");
    while (is_digit(peek())) ++position_;
    return true;
  }

  bool number() {
    take('-');
    if (!take('0') && !digits()) return false;
    if (take('.') && !digits()) return false;
    if (peek() == 'e' || peek() == 'E') {
      ++position_;
      if (!take('+')) take('-');
      if (!digits()) return false;
    }
    return true;
  }

  std::string_view record_;
  std::size_t position_ = 0;
  std::string key_, problem_;
};

}  // namespace

std::string read_json_text(std::string_view record, std::string_view field, std::string& text) {
  return Scanner(record).run(field, text);
}

std::string malformed_record(std::string_view field, std::string_view problem) {
  return fmt::format("expected a JSON object with a string '{}', which --text-field names ({})",
                     field, problem);
}

}  // namespace bert
