#include "data/tokenization/special_splitter.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/tokenization/wordpiece_tokenizer.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

TEST(SpecialSplitter, TakesTheLeftmostAndOfThoseTheLongest) {
  WordpieceOptions options = wordpiece_options(true);
  options.extra_special = {"<a", "<ab>", "<ab", "b<", "\u00e9"};
  const WordpieceTokenizer tokenizer(
      with_special({"<a", "<ab>", "<ab", "b<", "\u00e9", "x", "<", ">", "a"}), options);
  const SpecialSplitter splitter(tokenizer);
  const auto split = [&](std::string_view text, bool parse = true) {
    std::string result;
    std::vector<Token> specials;
    const auto show_specials = [&] {
      for (const Token& token : specials) {
        EXPECT_EQ(text.substr(token.begin, token.end - token.begin), tokenizer.piece(token.id));
        EXPECT_FALSE(token.starts_word);
        result += fmt::format("[{}]", tokenizer.piece(token.id));
      }
      specials.clear();
    };
    splitter.encode(text, parse, specials, [&](std::string_view part, std::uint32_t offset) {
      show_specials();
      EXPECT_EQ(text.substr(offset, part.size()), part);
      result += part;
    });
    show_specials();
    return result;
  };
  EXPECT_EQ(split("x <ab> <abx <a <"), "x [<ab>] [<ab]x [<a] <");
  EXPECT_EQ(split("ab<a<ab"), "a[b<]a[<ab]");
  EXPECT_EQ(split("\u00e9\u00e8[MASK]"), "[\u00e9]\u00e8[[MASK]]");
  EXPECT_EQ(split("[MASK"), "[MASK");
  EXPECT_EQ(split(""), "");
  EXPECT_EQ(split("x <ab>", false), "x <ab>");
}

}  // namespace
}  // namespace bert
