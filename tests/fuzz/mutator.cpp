#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <string_view>

namespace bert::fuzz {
namespace {

using std::string_view_literals::operator""sv;

// What parsers stumble over.
constexpr std::string_view kWords[] = {"\0"sv,
                                       "\xff"sv,
                                       "\xef\xbb\xbf"sv,
                                       "\xed\xa0\x80"sv,
                                       "\r\n"sv,
                                       "\n"sv,
                                       "\n\n"sv,
                                       "\t"sv,
                                       " "sv,
                                       "{"sv,
                                       "}"sv,
                                       "["sv,
                                       "]"sv,
                                       "\""sv,
                                       "'"sv,
                                       ","sv,
                                       ":"sv,
                                       ": "sv,
                                       "- "sv,
                                       "&a "sv,
                                       "*a"sv,
                                       "\\u0000"sv,
                                       "\\ud800"sv,
                                       "null"sv,
                                       "true"sv,
                                       "NaN"sv,
                                       ".inf"sv,
                                       "-1"sv,
                                       "0"sv,
                                       "1e999"sv,
                                       "1e300"sv,
                                       "0.5"sv,
                                       "2147483648"sv,
                                       "4294967297"sv,
                                       "9223372036854775807"sv,
                                       "18446744073709551615"sv,
                                       "18446744073709551616"sv,
                                       "\xff\xff\xff\xff\xff\xff\xff\xff"sv,
                                       "\x00\x00\x00\x00\x00\x00\x00\x80"sv,
                                       "\x00\x00\x00\x00\x00\x00\x00\x00"sv};

class Change {
 public:
  Change(PhiloxStream& random, const std::vector<std::string>& others, std::string& text)
      : random_(random), others_(others), text_(text) {}

  void make() {
    switch (random_.next_below(9)) {
      case 0:
        return flip_bit();
      case 1:
        return overwrite_byte();
      case 2:
        return erase();
      case 3:
        return repeat();
      case 4:
        return insert_word();
      case 5:
        return replace_number();
      case 6:
        return splice();
      case 7:
        return text_.resize(place());
      default:
        return nest();
    }
  }

 private:
  std::size_t below(std::size_t bound) {
    return bound == 0 ? 0 : random_.next_below(static_cast<std::uint32_t>(bound));
  }
  std::size_t place() { return below(text_.size() + 1); }
  std::string_view word() { return kWords[below(std::size(kWords))]; }

  void flip_bit() {
    if (text_.empty()) return;
    char& c = text_[below(text_.size())];
    c = static_cast<char>(c ^ (1 << below(8)));
  }
  void overwrite_byte() {
    if (!text_.empty()) text_[below(text_.size())] = static_cast<char>(below(256));
  }
  void erase() {
    const std::size_t at = place();
    text_.erase(at, 1 + below(std::min<std::size_t>(64, text_.size() - at)));
  }
  void repeat() {
    const std::size_t at = place();
    const std::string part = text_.substr(at, 1 + below(64));
    for (std::size_t i = 1 + below(3); i > 0; --i) text_.insert(at, part);
  }
  void insert_word() { text_.insert(place(), word()); }
  void replace_number() {
    const std::size_t at = text_.find_first_of("0123456789", place());
    if (at == std::string::npos) return insert_word();
    const std::size_t end = std::min(text_.find_first_not_of("0123456789.", at), text_.size());
    text_.replace(at, end - at, word());
  }
  void splice() {
    const std::string& other = others_[below(others_.size())];
    text_ = text_.substr(0, place()) + other.substr(below(other.size() + 1));
  }
  void nest() {
    // Rarely so deep that a stack would overflow: it takes its time.
    const std::size_t depth = std::size_t{1} << below(below(4) == 0 ? 14 : 6);
    constexpr std::string_view kOpenings[] = {"[", "{\"a\":", "- ", "? ", "{a: "};
    const std::string_view opening = kOpenings[below(std::size(kOpenings))];
    std::string nested;
    for (std::size_t i = 0; i < depth; ++i) nested += opening;
    text_.insert(place(), nested);
  }

  PhiloxStream& random_;
  const std::vector<std::string>& others_;
  std::string& text_;
};

}  // namespace

std::string Mutator::input(std::uint64_t seed) const {
  PhiloxStream random(seed, 0, 0);
  std::string text = inputs_[random.next_below(static_cast<std::uint32_t>(inputs_.size()))];
  for (std::uint32_t changes = 1 + random.next_below(4); changes > 0; --changes) {
    Change(random, inputs_, text).make();
  }
  text.resize(std::min(text.size(), kMostBytes));
  return text;
}

}  // namespace bert::fuzz
