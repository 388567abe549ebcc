#include "data/tokenization/vocab_trainer.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/philox.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Strings = std::vector<std::string>;

WordCounts counts_of(std::map<std::string, std::uint64_t> words) {
  WordCounts counts;
  counts.words.assign(words.begin(), words.end());
  std::sort(counts.words.begin(), counts.words.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  for (const auto& item : counts.words) counts.total += item.second;
  return counts;
}

Strings learned(const WordCounts& counts, const VocabTrainerOptions& options) {
  Strings pieces = train_wordpiece(counts, options).pieces;
  EXPECT_EQ(Strings(pieces.begin(), pieces.begin() + 5), with_special({}));
  pieces.erase(pieces.begin(), pieces.begin() + 5);
  return pieces;
}

// By hand. Letters b g h n p s u, of which g n s u continue. Pairs: u+g 20, p+u 17, u+n 16, h+u 15,
// g+s 5, b+u 4. Join u+g: h+ug 15, p+ug 5, ug+s 5, and p+u is left with 12. Join u+n (16): p+un 12,
// b+un 4. Join h+ug (15): hug+s 5. Join p+un (12). Of p+ug and hug+s, 5 each, p has the smaller id.
// At last b+un, 4.
TEST(VocabTrainer, DoesTheExampleByHand) {
  const WordCounts counts =
      counts_of({{"hug", 10}, {"pug", 5}, {"pun", 12}, {"bun", 4}, {"hugs", 5}});
  const Strings letters{"b", "g", "h", "n", "p", "s", "u", "##g", "##n", "##s", "##u"};
  const Strings joined{"##ug", "##un", "hug", "pun", "pug", "hugs", "bun"};
  Strings all = letters;
  all.insert(all.end(), joined.begin(), joined.end());
  VocabTrainerOptions options;
  EXPECT_EQ(learned(counts, options), all);
  options.min_frequency = 5;
  EXPECT_EQ(learned(counts, options), Strings(all.begin(), all.end() - 1));
  options.vocab_size = 5 + 11 + 3;
  EXPECT_EQ(learned(counts, options), Strings(all.begin(), all.begin() + 14));
  options.vocab_size = 16;
  EXPECT_EQ(learned(counts, options), letters);
  options.vocab_size = 15;
  EXPECT_NE(ERROR_OF(train_wordpiece(counts, options)).find("the special tokens need 16"),
            std::string::npos);
}

// By hand. Letters b 4, ##g 20, h 15, ##n 16, p 17, ##s 5, ##u 36. u+g 20/(36*20), p+u 17/(17*36),
// u+n 16/(36*16), h+u 15/(15*36) and b+u 4/(4*36) are 1/36 all; g+s 5/(20*5) is 1/20: first g+s.
// Then g is 15 and gs 5, and all others are still 1/36: b+u has the smallest ids. Of bu's 4, all go
// on with one of 16 n: bu+n 4/(4*16). Now u is 32, n 12, and all are 1/32: h+u has the smallest
// ids.
TEST(VocabTrainer, DoesTheExampleByLikelihood) {
  const WordCounts counts =
      counts_of({{"hug", 10}, {"pug", 5}, {"pun", 12}, {"bun", 4}, {"hugs", 5}});
  VocabTrainerOptions options;
  options.method = VocabMethod::kLikelihood;
  options.vocab_size = 5 + 11 + 4;
  const Strings pieces = learned(counts, options);
  EXPECT_EQ(Strings(pieces.begin() + 11, pieces.end()), (Strings{"##gs", "bu", "bun", "hu"}));
  EXPECT_EQ(parse_vocab_method("frequency"), VocabMethod::kFrequency);
  EXPECT_EQ(parse_vocab_method("likelihood"), VocabMethod::kLikelihood);
  EXPECT_THROW(parse_vocab_method("bpe"), InputError);
}

TEST(VocabTrainer, KeepsTheMostFrequentCharacters) {
  const WordCounts counts = counts_of({{"ab", 9}, {"ac", 3}, {"\u00e9", 5}, {"bcbc", 4}});
  VocabTrainerOptions options;
  options.max_alphabet = 2;  // b 17, a 12, c 11, e acute 5
  const TrainedVocab vocab = train_wordpiece(counts, options);
  EXPECT_EQ(vocab.alphabet, 2);
  EXPECT_EQ(vocab.characters_left_out, 2);
  // Of the words with c nothing is learned: they are unknown as they are.
  EXPECT_EQ(vocab.pieces, with_special({"a", "b", "##b", "ab"}));
}

TEST(VocabTrainer, LearnsNothingFromWordsThatAreTooLong) {
  VocabTrainerOptions options;
  options.max_word_chars = 3;
  EXPECT_EQ(train_wordpiece(counts_of({{"abc", 5}, {"xxxx", 9}}), options).pieces,
            with_special({"a", "b", "c", "##b", "##c", "ab", "abc"}));
  EXPECT_THROW(train_wordpiece(counts_of({{"xxxx", 9}}), options), InputError);
  EXPECT_THROW(train_wordpiece(counts_of({}), options), InputError);
}

// The definition: count all pairs anew before each join.
Strings train_naively(const WordCounts& counts, const VocabTrainerOptions& options) {
  const auto size = static_cast<std::size_t>(options.vocab_size);
  struct Word {
    Strings symbols;
    std::uint64_t count;
  };
  std::vector<Word> words;
  std::set<std::string> first, continuing;
  for (const auto& [text, count] : counts.words) {
    Word word{{}, count};
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t bytes = decode_utf8(text, i).size;
      first.insert(text.substr(i, bytes));
      if (i > 0) continuing.insert("##" + text.substr(i, bytes));
      word.symbols.push_back((i > 0 ? "##" : "") + text.substr(i, bytes));
      i += bytes;
    }
    words.push_back(word);
  }
  Strings pieces = with_special({first.begin(), first.end()});
  pieces.insert(pieces.end(), continuing.begin(), continuing.end());
  const auto id_of = [&](const std::string& piece) {
    return std::find(pieces.begin(), pieces.end(), piece) - pieces.begin();
  };
  while (pieces.size() < size) {
    std::map<std::pair<std::string, std::string>, std::uint64_t> pairs;
    std::map<std::string, std::uint64_t> occurrences;
    for (const Word& word : words) {
      for (const std::string& symbol : word.symbols) occurrences[symbol] += word.count;
      for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
        pairs[{word.symbols[i], word.symbols[i + 1]}] += word.count;
      }
    }
    std::erase_if(pairs, [&](const auto& pair) { return pair.second < options.min_frequency; });
    if (pairs.empty()) break;
    const auto score = [&](const auto& pair) {
      const auto count = static_cast<double>(pair.second);
      if (options.method == VocabMethod::kFrequency) return count;
      return count / (static_cast<double>(occurrences.at(pair.first.first)) *
                      static_cast<double>(occurrences.at(pair.first.second)));
    };
    const auto better = [&](const auto& a, const auto& b) {
      if (score(a) != score(b)) return score(a) > score(b);
      return std::pair(id_of(a.first.first), id_of(a.first.second)) <
             std::pair(id_of(b.first.first), id_of(b.first.second));
    };
    const auto best = std::min_element(pairs.begin(), pairs.end(), better);
    const auto [left, right] = best->first;
    const std::string joined = left + right.substr(2);
    if (std::find(pieces.begin(), pieces.end(), joined) == pieces.end()) pieces.push_back(joined);
    for (Word& word : words) {
      Strings symbols;
      for (std::size_t i = 0; i < word.symbols.size(); ++i) {
        if (i + 1 < word.symbols.size() && word.symbols[i] == left &&
            word.symbols[i + 1] == right) {
          symbols.push_back(joined);
          ++i;
        } else {
          symbols.push_back(word.symbols[i]);
        }
      }
      word.symbols = symbols;
    }
  }
  return pieces;
}

TEST(VocabTrainer, AgreesWithItsDefinition) {
  PhiloxStream random(21, 0, 0);
  for (int trial = 0; trial < 120; ++trial) {
    std::map<std::string, std::uint64_t> words;
    for (int i = 0; i < 30; ++i) {
      std::string word;
      const std::uint32_t size = 1 + random.next_below(9);
      for (std::uint32_t k = 0; k < size; ++k) {
        append_utf8(word, random.next_below(6) == 0 ? U'\u4eac' : U'a' + random.next_below(3));
      }
      words[word] += 1 + random.next_below(4);  // small counts: many ties
    }
    VocabTrainerOptions options;
    options.vocab_size = 20 + static_cast<std::int32_t>(random.next_below(60));
    options.min_frequency = 1 + random.next_below(3);
    options.method = trial % 2 == 0 ? VocabMethod::kFrequency : VocabMethod::kLikelihood;
    const WordCounts counts = counts_of(words);
    ASSERT_EQ(train_wordpiece(counts, options).pieces, train_naively(counts, options)) << trial;
  }
}

}  // namespace
}  // namespace bert
