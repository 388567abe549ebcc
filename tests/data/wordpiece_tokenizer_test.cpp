#include "data/tokenization/wordpiece_tokenizer.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/philox.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Strings = std::vector<std::string>;

WordpieceTokenizer small(bool cased = false) {
  return WordpieceTokenizer(
      with_special({"want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "[", "]", "mask",
                    "e", "##e", "\u4eac", ".", "'", "##\u0301"}),
      wordpiece_options(cased));
}

TEST(WordpieceTokenizer, TakesTheLongestMatchFirst) {
  const WordpieceTokenizer tokenizer = small();
  const std::string text = "UNwant\u00e9d,running wa \u4eac\u4eac";
  const auto tokens = encode(tokenizer, text);
  EXPECT_EQ(pieces_of(tokenizer, tokens),
            (Strings{"un", "##want", "##ed", ",", "runn", "##ing", "wa", "\u4eac", "\u4eac"}));
  EXPECT_EQ(sources_of(text, tokens),
            (Strings{"UN", "want", "\u00e9d", ",", "runn", "ing", "wa", "\u4eac", "\u4eac"}));
  std::vector<bool> starts;
  for (const Token& token : tokens) starts.push_back(token.starts_word);
  EXPECT_EQ(starts, (std::vector<bool>{true, false, false, true, true, false, true, true, true}));
}

TEST(WordpieceTokenizer, MakesWordsUnknownAsAWhole) {
  const WordpieceTokenizer tokenizer = small();
  const std::string text = "unwantedX running zz";
  const auto tokens = encode(tokenizer, text);
  EXPECT_EQ(pieces_of(tokenizer, tokens), (Strings{"[UNK]", "runn", "##ing", "[UNK]"}));
  EXPECT_EQ(sources_of(text, tokens), (Strings{"unwantedX", "runn", "ing", "zz"}));
  EXPECT_TRUE(tokens[0].starts_word);
}

TEST(WordpieceTokenizer, LimitsWordsByCharacters) {
  WordpieceOptions options = wordpiece_options(true);
  EXPECT_EQ(options.max_word_chars, 100u);
  EXPECT_EQ(wordpiece_options(true, CompatMode::kGoogle).max_word_chars, 200u);
  const WordpieceTokenizer tokenizer(with_special({"\u00e9", "##\u00e9"}), options);
  std::string word;
  for (int i = 0; i < 100; ++i) word += "\u00e9";
  EXPECT_EQ(encode(tokenizer, word).size(), 100u);
  EXPECT_EQ(pieces_of(tokenizer, encode(tokenizer, word + "\u00e9")), Strings{"[UNK]"});
}

TEST(WordpieceTokenizer, FindsSpecialTokensWhenAsked) {
  const WordpieceTokenizer tokenizer = small();
  const std::string text = "wa[MASK]un [UNK] [mask] [SEP";
  const auto tokens = encode(tokenizer, text, true);
  EXPECT_EQ(pieces_of(tokenizer, tokens),
            (Strings{"wa", "[MASK]", "un", "[UNK]", "[", "mask", "]", "[", "[UNK]"}));
  EXPECT_EQ(sources_of(text, tokens),
            (Strings{"wa", "[MASK]", "un", "[UNK]", "[", "mask", "]", "[", "SEP"}));
  EXPECT_EQ(tokens[1].id, tokenizer.special().mask);
  EXPECT_FALSE(tokens[1].starts_word);
  EXPECT_EQ(pieces_of(tokenizer, encode(tokenizer, "wa[MASK]un")),
            (Strings{"wa", "[", "mask", "]", "un"}));
}

TEST(WordpieceTokenizer, DecodesToReadableText) {
  const WordpieceTokenizer tokenizer = small();
  EXPECT_EQ(tokenizer.decode(ids_of(encode(tokenizer, "Unwanted, running.  'wa'"))),
            "unwanted, running. ' wa '");
  EXPECT_EQ(tokenizer.decode({2, 4, 5, 3}), "[CLS] [MASK] want [SEP]");
  EXPECT_EQ(tokenizer.decode({7, 6}), "##edwant");
  EXPECT_EQ(tokenizer.decode({}), "");
}

TEST(WordpieceTokenizer, TellsWhichPiecesStartWords) {
  const WordpieceTokenizer tokenizer = small();
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view piece = tokenizer.piece(id);
    const bool special = piece.size() > 1 && piece[0] == '[';
    EXPECT_EQ(tokenizer.starts_word(id), piece == "[UNK]" || (!special && !piece.starts_with("##")))
        << piece;
  }
  EXPECT_THROW(tokenizer.piece(-1), Error);
  EXPECT_THROW(tokenizer.piece(tokenizer.vocab_size()), Error);
}

TEST(WordpieceTokenizer, HasAFingerprintOfWhatDecidesIds) {
  const auto print = [](std::vector<std::string> pieces, const WordpieceOptions& options) {
    return WordpieceTokenizer(with_special(std::move(pieces)), options).fingerprint();
  };
  const WordpieceOptions uncased = wordpiece_options(false);
  EXPECT_EQ(print({"a", "b"}, uncased).size(), 16u);
  EXPECT_EQ(print({"a", "b"}, uncased), print({"a", "b"}, uncased));
  EXPECT_NE(print({"a", "b"}, uncased), print({"b", "a"}, uncased));
  EXPECT_NE(print({"a", "b"}, uncased), print({"a", "b"}, wordpiece_options(true)));
  EXPECT_NE(print({"a", "b"}, uncased),
            print({"a", "b"}, wordpiece_options(false, CompatMode::kGoogle)));
}

TEST(WordpieceTokenizer, RefusesBadVocabularies) {
  const auto error_of = [](std::vector<std::string> pieces) {
    return ERROR_OF(WordpieceTokenizer(std::move(pieces), wordpiece_options(false), "v.txt"));
  };
  EXPECT_EQ(error_of({}), "2: v.txt holds no entries");
  EXPECT_EQ(error_of(with_special({"a", "b", "a"})),
            "2: v.txt: 'a' is there twice, as entries 5 and 7 (lines 6 and 8)");
  EXPECT_TRUE(error_of(with_special({"a", "", "b"})).starts_with("2: v.txt: entry 6 (line 7)"));
  EXPECT_TRUE(error_of(with_special({"\xff"})).starts_with("2: v.txt: entry 5 (line 6)"));
  EXPECT_TRUE(error_of({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"})
                  .starts_with("2: v.txt has no special token [MASK]"));
}

// Greedy matching against its definition, over random words of few letters.
TEST(WordpieceTokenizer, AgreesWithANaiveMatcher) {
  PhiloxStream random(1, 2, 3);
  const auto letters = [&](std::uint32_t longest) {
    std::string text;
    const std::uint32_t size = 1 + random.next_below(longest);
    for (std::uint32_t i = 0; i < size; ++i) {
      const bool cyrillic = random.next_below(8) == 0;
      append_utf8(text, cyrillic ? U'\u0436' : U'a' + random.next_below(3));
    }
    return text;
  };
  std::set<std::string> vocabulary;
  while (vocabulary.size() < 60) {
    const std::string prefix = random.next_below(2) == 0 ? "##" : "";
    vocabulary.insert(prefix + letters(4));
  }
  vocabulary.erase("##\u0436");  // so that some words cannot be cut
  vocabulary.erase("##a");
  const WordpieceTokenizer tokenizer(with_special({vocabulary.begin(), vocabulary.end()}),
                                     wordpiece_options(true));
  int unknown = 0, cut = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    const std::string word = letters(12);
    Strings expected;
    for (std::size_t begin = 0; begin < word.size();) {
      std::size_t end = word.size();
      while (end > begin &&
             !vocabulary.contains((begin > 0 ? "##" : "") + word.substr(begin, end - begin))) {
        --end;
      }
      if (end == begin) {
        expected = {"[UNK]"};
        break;
      }
      expected.push_back((begin > 0 ? "##" : "") + word.substr(begin, end - begin));
      begin = end;
    }
    unknown += expected == Strings{"[UNK]"};
    cut += expected.size() > 1;
    ASSERT_EQ(pieces_of(tokenizer, encode(tokenizer, word)), expected) << word;
  }
  EXPECT_GT(unknown, 100);
  EXPECT_GT(cut, 100);
}

// Bytes of any kind, valid and not: tokens of invalid text are those of the text with U+FFFD for
// each invalid part, and every token lies within the text.
TEST(WordpieceTokenizer, TakesAnyBytes) {
  PhiloxStream random(5, 6, 7);
  const auto any_text = [&] {
    std::string text;
    for (std::uint32_t i = 0, parts = random.next_below(24); i < parts; ++i) {
      switch (random.next_below(5)) {
        case 0:
          text += static_cast<char>(random.next_below(256));
          break;
        case 1:  // a sequence of its own making, often overlong, too large or cut
          text += static_cast<char>(0xC0 + random.next_below(64));
          for (std::uint32_t k = random.next_below(4); k > 0; --k) {
            text += static_cast<char>(0x80 + random.next_below(64));
          }
          break;
        case 2:
          append_utf8(text, random.next_below(0xD800));
          break;
        case 3:
          append_utf8(text, 0xE000 + random.next_below(0x110000 - 0xE000));
          break;
        default:
          text += " [MASK] wanted, Running e\u0301"[random.next_below(28)];
      }
    }
    return text;
  };
  std::uint64_t replaced = 0, unknown = 0, tokens_seen = 0;
  for (const bool cased : {false, true}) {
    for (const CompatMode mode : {CompatMode::kHuggingFace, CompatMode::kGoogle}) {
      for (const bool clean : {true, false}) {
        WordpieceOptions options = wordpiece_options(cased, mode);
        options.splitter.clean_text = clean;
        const WordpieceTokenizer tokenizer(
            with_special({"want", "##ed", "e", "##e", "run", ",", "[", "]", "w", "##a", "##n"}),
            options);
        for (int trial = 0; trial < 2000; ++trial) {
          const std::string text = any_text();
          const auto tokens = encode(tokenizer, text, trial % 2 == 0);
          for (const Token& token : tokens) {
            ASSERT_GE(token.id, 0);
            ASSERT_LT(token.id, tokenizer.vocab_size());
            ASSERT_LT(token.begin, token.end);
            ASSERT_LE(token.end, text.size());
            unknown += token.id == tokenizer.special().unk;
          }
          tokens_seen += tokens.size();
          ASSERT_EQ(ids_of(tokens),
                    ids_of(encode(tokenizer, replace_invalid_utf8(text, replaced), trial % 2 == 0)))
              << testing::PrintToString(text);
          EXPECT_TRUE(is_valid_utf8(tokenizer.decode(ids_of(tokens))));
        }
      }
    }
  }
  EXPECT_GT(replaced, 10000u);
  EXPECT_GT(unknown, 10000u);
  EXPECT_GT(tokens_seen, unknown + 4000);
}

TEST(WordpieceTokenizer, AgreesWithPublishedVectors) {
  const auto file = shared_data("tokenization/bert_tokenization_vectors.json");
  const auto vocab = shared_data("vocab/bert-base-uncased-vocab.txt");
  if (!file || !vocab) GTEST_SKIP() << "no shared test data (BERT_TEST_DATA)";
  const auto vectors = nlohmann::json::parse(std::ifstream(*file));
  for (const char* group : {"wordpiece", "full_small_vocab"}) {
    for (const auto& item : vectors.at(group)) {
      auto pieces = item.at("vocab").get<Strings>();
      for (const std::string& special : with_special({})) {
        if (std::find(pieces.begin(), pieces.end(), special) == pieces.end()) {
          pieces.push_back(special);
        }
      }
      const WordpieceTokenizer tokenizer(pieces,
                                         wordpiece_options(std::string_view(group) == "wordpiece"));
      const auto tokens = encode(tokenizer, item.at("text").get<std::string>());
      EXPECT_EQ(pieces_of(tokenizer, tokens), item.at("tokens").get<Strings>());
      if (item.contains("ids")) {
        EXPECT_EQ(ids_of(tokens), item.at("ids").get<std::vector<std::int32_t>>());
      }
    }
  }
  const auto bert = load_tokenizer(*vocab);
  EXPECT_EQ(bert->vocab_size(), 30522);
  EXPECT_EQ(bert->special().pad, 0);
  EXPECT_EQ(bert->special().unk, 100);
  EXPECT_EQ(bert->special().cls, 101);
  EXPECT_EQ(bert->special().sep, 102);
  EXPECT_EQ(bert->special().mask, 103);
  int checked = 0;
  for (const auto& item : vectors.at("full_bert_base_uncased")) {
    EXPECT_EQ(ids_of(encode(*bert, item.at("text").get<std::string>())),
              item.at("ids").get<std::vector<std::int32_t>>());
    ++checked;
  }
  for (const auto& item : vectors.at("encode_bert_base_uncased")) {
    const bool special = item.value("add_special_tokens", true);
    std::vector<std::int32_t> ids;
    std::vector<std::array<std::size_t, 2>> offsets;  // in characters
    const auto add_special = [&](std::int32_t id) {
      if (!special) return;
      ids.push_back(id);
      offsets.push_back({0, 0});
    };
    add_special(bert->special().cls);
    for (const char* key : {"text_a", "text_b"}) {
      if (item.at(key).is_null()) continue;
      const auto text = item.at(key).get<std::string>();
      for (const Token& token : encode(*bert, text, true)) {
        ids.push_back(token.id);
        offsets.push_back({count_utf8(std::string_view(text).substr(0, token.begin)),
                           count_utf8(std::string_view(text).substr(0, token.end))});
      }
      add_special(bert->special().sep);
    }
    EXPECT_EQ(ids, item.at("ids").get<std::vector<std::int32_t>>());
    using Offsets = std::vector<std::array<std::size_t, 2>>;
    EXPECT_EQ(offsets, item.at("offsets_chars").get<Offsets>());
    ++checked;
  }
  EXPECT_GE(checked, 11);
}

}  // namespace
}  // namespace bert
