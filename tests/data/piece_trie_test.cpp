#include "data/piece_trie.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert {
namespace {

TEST(PieceTrie, FindsTheLongest) {
  const PieceTrie trie({{"a", 7}, {"ab", 3}, {"abcd", 5}, {"\xff\xfe", 1}});
  EXPECT_EQ(trie.longest("abcx").id, 3);
  EXPECT_EQ(trie.longest("abcx").length, 2u);
  EXPECT_EQ(trie.longest("abcd").id, 5);
  EXPECT_EQ(trie.longest("a").id, 7);
  EXPECT_EQ(trie.longest("\xff\xfe\xff").id, 1);
  EXPECT_EQ(trie.longest("\xff").id, -1);
  EXPECT_EQ(trie.longest("b").id, -1);
  EXPECT_EQ(trie.longest("").id, -1);
  EXPECT_EQ(PieceTrie().longest("anything").id, -1);
}

TEST(PieceTrie, RefusesRepeatedAndEmptyPieces) {
  EXPECT_THROW(PieceTrie({{"a", 1}, {"a", 2}}), Error);
  EXPECT_THROW(PieceTrie({{"", 1}}), Error);
}

// Against a map, over few letters (deep) and over all bytes (wide).
TEST(PieceTrie, AgreesWithAMap) {
  PhiloxStream random(11, 0, 0);
  for (const std::uint32_t letters : {2u, 26u, 256u}) {
    const auto text_of = [&](std::uint32_t longest) {
      std::string text;
      const std::uint32_t size = 1 + random.next_below(longest);
      for (std::uint32_t i = 0; i < size; ++i) {
        text += static_cast<char>(random.next_below(letters));
      }
      return text;
    };
    std::map<std::string, std::int32_t> pieces;
    for (std::int32_t id = 0; id < 5000; ++id) pieces.emplace(text_of(12), id);
    const PieceTrie trie(
        std::vector<std::pair<std::string_view, std::int32_t>>(pieces.begin(), pieces.end()));
    for (int trial = 0; trial < 20000; ++trial) {
      const std::string text = text_of(16);
      PieceTrie::Match expected;
      for (std::uint32_t length = 1; length <= text.size(); ++length) {
        const auto found = pieces.find(text.substr(0, length));
        if (found != pieces.end()) expected = {found->second, length};
      }
      const PieceTrie::Match match = trie.longest(text);
      ASSERT_EQ(match.id, expected.id);
      ASSERT_EQ(match.length, expected.length);
    }
  }
}

}  // namespace
}  // namespace bert
