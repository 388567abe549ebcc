#include "data/tokenization/wordpiece_matcher.h"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert {
namespace {

struct Cut {
  std::int32_t id;
  std::size_t begin, end;
  bool operator==(const Cut&) const = default;
};
using Cuts = std::vector<Cut>;
using Vocab = std::map<std::string, std::int32_t>;

// As google-research/bert does it: at each place the longest piece, tried from the word's end.
bool cut_naively(const Vocab& initial, const Vocab& continuing, const std::string& word,
                 Cuts& cuts) {
  cuts.clear();
  for (std::size_t begin = 0; begin < word.size();) {
    const Vocab& vocab = begin == 0 ? initial : continuing;
    std::size_t end = word.size();
    while (end > begin && !vocab.contains(word.substr(begin, end - begin))) --end;
    if (end == begin) return false;
    cuts.push_back({vocab.at(word.substr(begin, end - begin)), begin, end});
    begin = end;
  }
  return true;
}

WordpieceMatcher matcher_of(const Vocab& initial, const Vocab& continuing) {
  return WordpieceMatcher({initial.begin(), initial.end()}, {continuing.begin(), continuing.end()});
}

bool cut(const WordpieceMatcher& matcher, const std::string& word, Cuts& cuts) {
  cuts.clear();
  return matcher.match(word, [&](std::int32_t id, std::size_t begin, std::size_t end) {
    cuts.push_back({id, begin, end});
  });
}

// Section 3.2 of the paper: "abcdz" with the vocabulary {a, abcdx, ##b, ##c, ##cdy, ##dz}.
TEST(WordpieceMatcher, DoesTheExampleOfThePaper) {
  const WordpieceMatcher matcher({{"a", 0}, {"abcdx", 1}},
                                 {{"b", 2}, {"c", 3}, {"cdy", 4}, {"dz", 5}});
  Cuts cuts;
  EXPECT_TRUE(cut(matcher, "abcdz", cuts));
  EXPECT_EQ(cuts, (Cuts{{0, 0, 1}, {2, 1, 2}, {3, 2, 3}, {5, 3, 5}}));
  EXPECT_TRUE(cut(matcher, "abcdx", cuts));
  EXPECT_EQ(cuts, (Cuts{{1, 0, 5}}));
  EXPECT_TRUE(cut(matcher, "abcdy", cuts));
  EXPECT_EQ(cuts, (Cuts{{0, 0, 1}, {2, 1, 2}, {4, 2, 5}}));
  EXPECT_FALSE(cut(matcher, "abcd", cuts));
  EXPECT_FALSE(cut(matcher, "b", cuts));
  EXPECT_FALSE(cut(matcher, "az", cuts));
  EXPECT_TRUE(cut(matcher, "", cuts));
  EXPECT_TRUE(cuts.empty());
  EXPECT_FALSE(cut(WordpieceMatcher(), "a", cuts));
}

TEST(WordpieceMatcher, RefusesRepeatedAndEmptyPieces) {
  EXPECT_THROW(WordpieceMatcher({{"a", 1}, {"a", 2}}, {}), Error);
  EXPECT_THROW(WordpieceMatcher({}, {{"", 1}}), Error);
  EXPECT_THROW(WordpieceMatcher({{"a", -1}}, {}), Error);
}

// Random vocabularies over two letters (long shared beginnings, many failures), six and all bytes;
// words put together from pieces, so that many can be cut, and from letters.
TEST(WordpieceMatcher, AgreesWithANaiveMatcher) {
  PhiloxStream random(21, 0, 0);
  std::size_t known = 0, unknown = 0, most_pieces = 0;
  for (int trial = 0; trial < 600; ++trial) {
    const std::uint32_t letters = trial % 3 == 0 ? 2 : trial % 3 == 1 ? 6 : 256;
    const auto text_of = [&](std::uint32_t longest) {
      std::string text;
      const std::uint32_t size = 1 + random.next_below(longest);
      for (std::uint32_t i = 0; i < size; ++i) {
        text += static_cast<char>(random.next_below(letters));
      }
      return text;
    };
    Vocab initial, continuing;
    std::vector<std::string> all;
    const std::uint32_t count = 1 + random.next_below(trial % 10 == 0 ? 3000 : 60);
    for (std::uint32_t id = 0; id < count; ++id) {
      all.push_back(text_of(trial % 2 == 0 ? 5 : 12));
      (random.next_below(4) == 0 ? initial : continuing)
          .emplace(all.back(), static_cast<std::int32_t>(id));
    }
    const WordpieceMatcher matcher = matcher_of(initial, continuing);
    Cuts expected, cuts;
    for (int i = 0; i < 400; ++i) {
      std::string word;
      if (i % 4 == 0) {
        word = text_of(30);
      } else {
        for (std::uint32_t part = 0, parts = 1 + random.next_below(6); part < parts; ++part) {
          const std::string& piece = all[random.next_below(count)];
          word += piece.substr(0, 1 + random.next_below(static_cast<std::uint32_t>(piece.size())));
        }
      }
      const bool can = cut_naively(initial, continuing, word, expected);
      ASSERT_EQ(cut(matcher, word, cuts), can) << "trial " << trial;
      if (can) {
        ASSERT_EQ(cuts, expected) << "trial " << trial;
        most_pieces = std::max(most_pieces, cuts.size());
      }
      (can ? known : unknown) += 1;
    }
  }
  EXPECT_GT(known, 20000u);
  EXPECT_GT(unknown, 20000u);
  EXPECT_GT(most_pieces, 10u);
}

// The word aaa...ab against {a, ##a, a^k, ##a^k}, and against {a, ##a, a^k b}: going back would
// read the last k bytes again at every place. Counted as what match() does: steps and failures.
TEST(WordpieceMatcher, IsLinearInTheWord) {
  for (const bool with_final_letter : {false, true}) {
    Vocab initial{{"a", 0}}, continuing{{"a", 1}, {"b", 2}};
    const std::size_t k = 500;
    continuing.emplace(std::string(k, 'a') + (with_final_letter ? "b" : ""), 3);
    initial.emplace(std::string(k, 'a') + "c", 4);
    const WordpieceMatcher matcher = matcher_of(initial, continuing);
    for (const std::size_t n : {k - 1, 10 * k, 100 * k + 7}) {
      const std::string word = std::string(n, 'a') + "b";
      std::size_t steps = 0, failures = 0, pieces = 0, begin = 0;
      WordpieceMatcher::Node node = WordpieceMatcher::kInitialRoot;
      const auto emit = [&](std::int32_t, std::size_t, std::size_t) { ++pieces; };
      for (std::size_t i = 0; i < word.size();) {
        ++steps;
        const auto child = matcher.step(node, static_cast<unsigned char>(word[i]));
        if (child != WordpieceMatcher::kNone) {
          node = child;
          ++i;
          continue;
        }
        ++failures;
        ASSERT_TRUE(matcher.fail(node, begin, i, emit));
      }
      ASSERT_TRUE(matcher.finish(node, begin, word.size(), emit));
      // Every failure takes a piece at least, so there are no more failures than bytes.
      EXPECT_LE(failures, word.size());
      EXPECT_LE(steps, 2 * word.size());
      Cuts expected, cuts;
      ASSERT_TRUE(cut(matcher, word, cuts));
      EXPECT_EQ(cuts.size(), pieces);
      EXPECT_EQ(cuts.front(), (Cut{0, 0, 1}));
      EXPECT_EQ(cuts.back().end, word.size());
      if (n < 2 * k) {
        ASSERT_TRUE(cut_naively(initial, continuing, word, expected));
        EXPECT_EQ(cuts, expected);
      }
    }
  }
}

}  // namespace
}  // namespace bert
