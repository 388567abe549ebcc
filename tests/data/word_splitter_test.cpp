#include "data/tokenization/word_splitter.h"

#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/text/unicode.h"
#include "runtime/error.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Strings = std::vector<std::string>;

struct Split {
  Strings words, sources;  // normalised, and as they stand in the text
};

Split split(std::string_view text, const WordSplitterOptions& options = {}) {
  const WordSplitter splitter(options);
  WordSplitter::Scanner scanner(splitter, text);
  Split result;
  SplitWord word;
  while (scanner.next(word)) {
    result.words.emplace_back(word.text);
    result.sources.emplace_back(text.substr(word.begin, word.end - word.begin));
    if (word.bytes == nullptr) {
      EXPECT_EQ(word.end - word.begin, word.text.size());
    } else {
      EXPECT_EQ(word.bytes[0].begin, word.begin);
      EXPECT_EQ(word.bytes[word.text.size() - 1].end, word.end);
    }
  }
  return result;
}

WordSplitterOptions cased(CompatMode mode = CompatMode::kHuggingFace) {
  WordSplitterOptions options;
  options.mode = mode;
  options.lowercase = options.strip_accents = false;
  return options;
}

WordSplitterOptions google() {
  WordSplitterOptions options;
  options.mode = CompatMode::kGoogle;
  return options;
}

TEST(WordSplitter, SplitsAtSpacesAndPunctuation) {
  EXPECT_EQ(split("").words, Strings{});
  EXPECT_EQ(split(" \t ").words, Strings{});
  EXPECT_EQ(split("Don't  stop!\t(Now)").words,
            (Strings{"don", "'", "t", "stop", "!", "(", "now", ")"}));
  // Every ASCII symbol splits; other symbols do not, other punctuation does.
  EXPECT_EQ(split("a$b^c`d|e~f").words,
            (Strings{"a", "$", "b", "^", "c", "`", "d", "|", "e", "~", "f"}));
  EXPECT_EQ(split("a\u20acb a\u2014b\u3002c").words,
            (Strings{"a\u20acb", "a", "\u2014", "b", "\u3002", "c"}));
}

TEST(WordSplitter, CleansControlCharactersAway) {
  for (const CompatMode mode : {CompatMode::kHuggingFace, CompatMode::kGoogle}) {
    const WordSplitterOptions options = cased(mode);
    // Soft hyphen, zero-width space, NUL, U+FFFD and others join their neighbours.
    EXPECT_EQ(split("co\u00adop a\u200bb", options).words, (Strings{"coop", "ab"}));
    EXPECT_EQ(split(std::string_view("a\0b", 3), options).words, Strings{"ab"});
    EXPECT_EQ(split("a\ufffdb\x01"
                    "c\x7f"
                    "d",
                    options)
                  .words,
              Strings{"abcd"});
    EXPECT_EQ(split("\u200e\u200f", options).words, Strings{});
    EXPECT_EQ(split("a\u00a0b\u3000c\u2003d\ne\rf", options).words,
              (Strings{"a", "b", "c", "d", "e", "f"}));
    // Invalid bytes count as U+FFFD.
    EXPECT_EQ(split("a\xff\xfe"
                    "b \xe2\x82",
                    options)
                  .words,
              Strings{"ab"});
  }
  EXPECT_EQ(split("a\ue000b", cased()).words, Strings{"ab"});  // private use
  EXPECT_EQ(split("a\ue000b", cased(CompatMode::kGoogle)).words, Strings{"a\ue000b"});
}

TEST(WordSplitter, SetsIdeographsApart) {
  EXPECT_EQ(split("ah\u535a\u63a8zz").words, (Strings{"ah", "\u535a", "\u63a8", "zz"}));
  for (const char32_t code : {0x4E00, 0x9FFF, 0x3400, 0x4DBF, 0x20000, 0x2A6DF, 0x2A700, 0x2B73F,
                              0x2B740, 0x2B81F, 0x2B920, 0x2CEAF}) {
    std::string text = "a";
    append_utf8(text, code);
    EXPECT_EQ(split(text + "b").words.size(), 3u) << std::hex << static_cast<unsigned>(code);
  }
  // Kana and Hangul are not; the systems differ about U+2B820 to U+2B91F.
  EXPECT_EQ(split("\u3072\u3089", cased()).words.size(), 1u);
  EXPECT_EQ(split("\ud55c\uad6d", cased()).words.size(), 1u);
  EXPECT_EQ(split("a\U0002B820b").words.size(), 1u);
  EXPECT_EQ(split("a\U0002B820b", google()).words.size(), 3u);
  // A compatibility ideograph is decomposed where accents are stripped.
  EXPECT_EQ(split("a\uf900b").words, (Strings{"a", "\u8c48", "b"}));
  EXPECT_EQ(split("a\uf900b", cased()).words, (Strings{"a", "\uf900", "b"}));
}

TEST(WordSplitter, LowersAndStripsAccents) {
  EXPECT_EQ(split("H\u00e9llo \u00c5NGSTR\u00d6M e\u0301").words,
            (Strings{"hello", "angstrom", "e"}));
  EXPECT_EQ(split("H\u00e9llo", cased()).words, Strings{"H\u00e9llo"});
  WordSplitterOptions lower_only;
  lower_only.strip_accents = false;
  EXPECT_EQ(split("H\u00c9llo \u0130", lower_only).words, (Strings{"h\u00e9llo", "i\u0307"}));
  WordSplitterOptions strip_only;
  strip_only.lowercase = false;
  EXPECT_EQ(split("H\u00c9llo \u0130", strip_only).words, (Strings{"HEllo", "I"}));
  // Hangul becomes jamo, the sharp s stays.
  EXPECT_EQ(split("\ud55c Stra\u00dfe").words, (Strings{"\u1112\u1161\u11ab", "stra\u00dfe"}));
  EXPECT_EQ(split("\uac00 \ud7a3").words, (Strings{"\u1100\u1161", "\u1112\u1175\u11c2"}));
  // A character may decompose into punctuation: the Greek varia is a grave accent.
  EXPECT_EQ(split("a\u1fefb").words, (Strings{"a", "`", "b"}));
}

TEST(WordSplitter, TellsTheSigmasOfTheTwoModes) {
  const std::string capital = "\u039f\u0394\u039f\u03a3";
  EXPECT_EQ(split(capital).words, Strings{"\u03bf\u03b4\u03bf\u03c3"});
  EXPECT_EQ(split(capital, google()).words, Strings{"\u03bf\u03b4\u03bf\u03c2"});
  EXPECT_EQ(split("\u03a3 \u0391\u03a3\u0391 \u0391\u03a3.", google()).words,
            (Strings{"\u03c3", "\u03b1\u03c3\u03b1", "\u03b1\u03c2", "."}));
  // An ordinal is no letter, but cased: a sigma before it is not final, one after it is.
  EXPECT_EQ(split("\u0391\u03a3\u00ba \u00aa\u03a3 \u0391\u03a3\u4e00", google()).words,
            (Strings{"\u03b1\u03c3\u00ba", "\u00aa\u03c2", "\u03b1\u03c2", "\u4e00"}));
}

// Combining characters that are kept come in canonical order: U+1DFB (230, no accent to Hugging
// Face's old tables), U+302E (224).
TEST(WordSplitter, OrdersCombiningCharacters) {
  EXPECT_EQ(split("a\u1dfb\u302eb").words, Strings{"a\u302e\u1dfbb"});
  EXPECT_EQ(split("a\u302e\u1dfbb").words, Strings{"a\u302e\u1dfbb"});
  EXPECT_EQ(split("a\u1dfb\u034f\u302eb").words, Strings{"a\u1dfb\u302eb"});  // CGJ has class 0
  EXPECT_EQ(split("a\u1dfb\u0301\u302eb").words, Strings{"a\u302e\u1dfbb"});
  EXPECT_EQ(split("a\u1dfb\u302eb", cased()).words, Strings{"a\u1dfb\u302eb"});
}

TEST(WordSplitter, KnowsWhereWordsCameFrom) {
  const Split found = split("  H\u00e9llo,\u00a0w\u00adorld \u4eac\u90fd e\u0301x");
  EXPECT_EQ(found.words, (Strings{"hello", ",", "world", "\u4eac", "\u90fd", "ex"}));
  EXPECT_EQ(found.sources,
            (Strings{"H\u00e9llo", ",", "w\u00adorld", "\u4eac", "\u90fd", "e\u0301x"}));
}

TEST(WordSplitter, ParsesModes) {
  EXPECT_EQ(parse_compat_mode("google"), CompatMode::kGoogle);
  EXPECT_EQ(parse_compat_mode(compat_mode_name(CompatMode::kHuggingFace)),
            CompatMode::kHuggingFace);
  EXPECT_THROW(parse_compat_mode("gogle"), InputError);
}

TEST(WordSplitter, AgreesWithPublishedVectors) {
  const auto file = shared_data("tokenization/bert_tokenization_vectors.json");
  if (!file) GTEST_SKIP() << "no shared test data (BERT_TEST_DATA)";
  const auto vectors = nlohmann::json::parse(std::ifstream(*file));
  int checked = 0;
  for (const auto& item : vectors.at("basic")) {
    if (item.contains("never_split")) continue;  // special tokens are the tokenizer's matter
    WordSplitterOptions options;
    options.lowercase = item.at("do_lower_case").get<bool>();
    options.strip_accents = item.at("strip_accents").is_null()
                                ? options.lowercase
                                : item.at("strip_accents").get<bool>();
    const auto text = item.at("text").get<std::string>();
    SCOPED_TRACE(text);
    const Split found = split(text, options);
    EXPECT_EQ(found.words, item.at("tokens").get<Strings>());
    if (item.contains("offsets_bytes")) {
      Strings sources;
      for (const auto& offsets : item.at("offsets_bytes")) {
        const auto begin = offsets.at(0).get<std::size_t>();
        sources.push_back(text.substr(begin, offsets.at(1).get<std::size_t>() - begin));
      }
      EXPECT_EQ(found.sources, sources);
    }
    ++checked;
  }
  EXPECT_GE(checked, 15);
  // Spaces part words, controls vanish, punctuation stands alone, the rest does none of these.
  const auto& classes = vectors.at("char_class");
  const auto between = [](const nlohmann::json& c) {
    return split("a" + c.get<std::string>() + "b", cased()).words;
  };
  for (const auto& c : classes.at("is_whitespace")) EXPECT_EQ(between(c), (Strings{"a", "b"}));
  for (const auto& c : classes.at("is_control")) EXPECT_EQ(between(c), Strings{"ab"});
  for (const auto& c : classes.at("is_punctuation")) EXPECT_EQ(between(c).size(), 3u);
  for (const auto& c : classes.at("not_punctuation")) EXPECT_LT(between(c).size(), 3u);
}

}  // namespace
}  // namespace bert
