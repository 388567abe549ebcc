#include "data/text/unicode.h"

#include <string>

#include <gtest/gtest.h>

namespace bert {
namespace {

std::string replaced(std::string_view text) {
  std::uint64_t count = 0;
  return replace_invalid_utf8(text, count);
}

TEST(Unicode, EncodesAndDecodesEveryCharacter) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(text, code);
    ASSERT_EQ(text.size(), code < 0x80 ? 1u : code < 0x800 ? 2u : code < 0x10000 ? 3u : 4u);
    const DecodedChar c = decode_utf8(text, 0);
    ASSERT_TRUE(c.valid);
    ASSERT_EQ(c.code, code);
    ASSERT_EQ(c.size, text.size());
    ASSERT_TRUE(is_valid_utf8("plain text of many bytes " + text));
  }
}

// The parts that become one U+FFFD each are those of the Unicode standard, table 3-8 among them.
TEST(Unicode, ReplacesMaximalInvalidParts) {
  const std::string r = "\xef\xbf\xbd";
  EXPECT_EQ(replaced("plain \xc3\xa9"), "plain \xc3\xa9");
  EXPECT_EQ(replaced("\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64"),
            "a" + r + r + r + "b" + r + "c" + r + r + "d");
  EXPECT_EQ(replaced("\xc0\xaf"), r + r);                  // overlong
  EXPECT_EQ(replaced("\xe0\x80\xaf"), r + r + r);          // overlong
  EXPECT_EQ(replaced("\xed\xa0\x80"), r + r + r);          // a surrogate
  EXPECT_EQ(replaced("\xf4\x90\x80\x80"), r + r + r + r);  // above U+10FFFF
  EXPECT_EQ(replaced("\xf8\x88\x80\x80\x80"), r + r + r + r + r);
  EXPECT_EQ(replaced("end \xe2\x82"), "end " + r);  // cut short
  EXPECT_EQ(replaced("\xff\xfe"), r + r);
  std::uint64_t count = 3;
  replace_invalid_utf8("\xe2\x82 \xff", count);
  EXPECT_EQ(count, 5u);
  EXPECT_FALSE(is_valid_utf8("a long enough line of text \xff"));
  EXPECT_FALSE(is_valid_utf8("end \xe2\x82"));
}

TEST(Unicode, CountsCharacters) {
  EXPECT_EQ(count_utf8(""), 0u);
  EXPECT_EQ(count_utf8("a\u00e9\u4eac\U0001F600"), 4u);
}

TEST(Unicode, DecomposesHangul) {
  char32_t jamo[3];
  ASSERT_EQ(decompose_hangul(0xAC00, jamo), 2);
  EXPECT_EQ(jamo[0], 0x1100u);
  EXPECT_EQ(jamo[1], 0x1161u);
  ASSERT_EQ(decompose_hangul(0xD55C, jamo), 3);  // "han"
  EXPECT_EQ(jamo[0], 0x1112u);
  EXPECT_EQ(jamo[1], 0x1161u);
  EXPECT_EQ(jamo[2], 0x11ABu);
}

TEST(Unicode, TablesAreSortedAndDisjoint) {
  namespace hf = huggingface_unicode;
  for (const auto& ranges : {hf::dropped, hf::spaces, hf::word_breaks, hf::punctuation,
                             hf::ideographs, hf::accents, hf::starter_accents}) {
    ASSERT_FALSE(ranges.empty());
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      ASSERT_LE(ranges[i].first, ranges[i].last);
      if (i > 0) {
        ASSERT_LT(ranges[i - 1].last, ranges[i].first);
      }
    }
  }
}

}  // namespace
}  // namespace bert
