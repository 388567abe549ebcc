#include "data/samples/mlm_masking.h"

#include <cmath>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "data/shards/random_streams.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::int32_t kVocab = 1000, kMask = 4;

// Within five standard deviations of a binomial: a right generator fails once in two million.
void expect_binomial(double count, double trials, double probability, const char* what) {
  const double deviation = std::sqrt(trials * probability * (1 - probability));
  EXPECT_NEAR(count, trials * probability, 5 * deviation) << what;
}

struct Masked {
  std::vector<std::int32_t> ids, rows, targets;
};

// [CLS] 100 101 ... [SEP]; `word_lengths` of the text in between.
struct Text {
  std::vector<std::int32_t> ids{2};
  std::vector<MaskRole> roles{MaskRole::never};
  std::vector<std::size_t> word_of;  // per id; 0 is no word
  explicit Text(const std::vector<int>& word_lengths) {
    word_of.push_back(0);
    for (std::size_t word = 0; word < word_lengths.size(); ++word) {
      for (int i = 0; i < word_lengths[word]; ++i) {
        ids.push_back(100 + static_cast<std::int32_t>(ids.size()));
        roles.push_back(i == 0 ? MaskRole::starts_word : MaskRole::continues_word);
        word_of.push_back(word + 1);
      }
    }
    ids.push_back(3);
    roles.push_back(MaskRole::never);
    word_of.push_back(0);
  }
};

Masked mask(const MlmMasker& masker, const Text& text, std::uint64_t sample, int first_row = 0) {
  Masked result;
  result.ids = text.ids;
  MlmMasker::Scratch scratch;
  PhiloxStream random(1, kMaskStream, sample);
  masker.mask(random, result.ids, text.roles, first_row, result.rows, result.targets, scratch);
  return result;
}

MlmMasker make_masker(Masking masking, double fraction = 0.15, std::int64_t most = 0) {
  return MlmMasker({masking, fraction, most}, kVocab, kMask);
}

TEST(MlmMasking, NumberOfPredictions) {
  const MlmMasker masker = make_masker(Masking::token), few = make_masker(Masking::token, 0.15, 20);
  EXPECT_EQ(masker.num_predictions(3), 1);
  EXPECT_EQ(masker.num_predictions(10), 2);  // 1.5 to even
  EXPECT_EQ(masker.num_predictions(30), 4);  // 4.5 to even
  EXPECT_EQ(masker.num_predictions(128), 19);
  EXPECT_EQ(masker.num_predictions(512), 77);
  EXPECT_EQ(few.num_predictions(128), 19);
  EXPECT_EQ(few.num_predictions(512), 20);
}

TEST(MlmMasking, SinglePiecesAreChosenUniformlyAndExactlyAsManyAsAsked) {
  const Text text(std::vector<int>(48, 1));
  for (const Masking masking : {Masking::token, Masking::whole_word}) {
    const MlmMasker masker = make_masker(masking);
    const int trials = 40'000, wanted = 8;  // nearbyint(0.15 * 50) = 8
    std::vector<double> chosen(text.ids.size());
    for (int trial = 0; trial < trials; ++trial) {
      const Masked masked = mask(masker, text, static_cast<std::uint64_t>(trial));
      ASSERT_EQ(masked.rows.size(), static_cast<std::size_t>(wanted));
      for (const std::int32_t row : masked.rows) chosen[static_cast<std::size_t>(row)] += 1;
    }
    EXPECT_EQ(chosen.front(), 0);
    EXPECT_EQ(chosen.back(), 0);
    double chi_square = 0;
    const double probability = wanted / 48.0, expected = trials * probability;
    for (std::size_t i = 1; i + 1 < chosen.size(); ++i) {
      chi_square += std::pow(chosen[i] - expected, 2) / (expected * (1 - probability));
    }
    // Without replacement: the sum has mean 48 and about 47 degrees of freedom.
    EXPECT_NEAR(chi_square, 48, 5 * std::sqrt(2 * 47.0));
  }
}

TEST(MlmMasking, EightyTenTen) {
  const Text text(std::vector<int>(98, 1));
  const MlmMasker masker = make_masker(Masking::whole_word);
  double masks = 0, kept = 0, replaced = 0, all = 0;
  std::vector<double> replacements(kVocab);
  for (std::uint64_t trial = 0; trial < 40'000; ++trial) {
    const Masked masked = mask(masker, text, trial);
    for (std::size_t i = 0; i < masked.rows.size(); ++i) {
      const std::int32_t id = masked.ids[static_cast<std::size_t>(masked.rows[i])];
      ++all;
      if (id == kMask) {
        ++masks;
      } else if (id == masked.targets[i]) {
        ++kept;
      } else {
        ++replaced;
        replacements[static_cast<std::size_t>(id)] += 1;
      }
    }
  }
  // A random id is [MASK] or the old one once in kVocab each.
  const double other = 0.1 * (kVocab - 2) / kVocab, same = 0.1 / kVocab;
  expect_binomial(masks, all, 0.8 + same, "[MASK]");
  expect_binomial(kept, all, 0.1 + same, "kept");
  expect_binomial(replaced, all, other, "random");
  // Uniform over the vocabulary outside the text, whose own ids are not counted when drawn at home.
  double chi_square = 0;
  const double expected = replaced / (kVocab - 2);
  int degrees = 0;
  for (std::int32_t id = 200; id < kVocab; ++id, ++degrees) {
    chi_square += std::pow(replacements[static_cast<std::size_t>(id)] - expected, 2) / expected;
  }
  EXPECT_NEAR(chi_square, degrees, 5 * std::sqrt(2.0 * degrees));
  EXPECT_GT(replacements[0], 0);  // special tokens too
}

TEST(MlmMasking, WholeWordsAreChosenTogether) {
  std::vector<int> lengths;
  for (int i = 0; i < 30; ++i) lengths.push_back(1 + i % 4);
  const Text text(lengths);
  const MlmMasker whole = make_masker(Masking::whole_word), pieces = make_masker(Masking::token);
  int torn = 0;
  for (std::uint64_t trial = 0; trial < 2000; ++trial) {
    for (const bool whole_word : {true, false}) {
      const Masked masked = mask(whole_word ? whole : pieces, text, trial);
      std::map<std::size_t, int> chosen;
      for (const std::int32_t row : masked.rows)
        ++chosen[text.word_of[static_cast<std::size_t>(row)]];
      ASSERT_FALSE(chosen.contains(0)) << "[CLS] or [SEP] was chosen";
      for (const auto& [word, count] : chosen) {
        ASSERT_TRUE(!whole_word || count == lengths[word - 1]);
        torn += !whole_word && count != lengths[word - 1];
      }
      // With words of one piece about, the number asked for is always reached.
      ASSERT_EQ(masked.rows.size(), 11u);  // 0.15 * 75
    }
  }
  EXPECT_GT(torn, 0);
}

TEST(MlmMasking, EachPieceOfAWordDrawsForItself) {
  const Text text({4, 4, 4, 4, 4, 4});
  const MlmMasker masker = make_masker(Masking::whole_word);
  double words = 0, all_masks = 0;
  for (std::uint64_t trial = 0; trial < 20'000; ++trial) {
    const Masked masked = mask(masker, text, trial);
    ASSERT_EQ(masked.rows.size(), 4u);
    ++words;
    int masks = 0;
    for (const std::int32_t row : masked.rows)
      masks += masked.ids[static_cast<std::size_t>(row)] == kMask;
    all_masks += masks == 4;
  }
  expect_binomial(all_masks, words, std::pow(0.8 + 0.1 / kVocab, 4), "four masks in a word");
}

TEST(MlmMasking, AWordThatIsTooLongIsSkipped) {
  const MlmMasker masker = make_masker(Masking::whole_word);
  // 12 tokens: 2 predictions. The word of 9 never fits; the single one always does.
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    EXPECT_EQ(mask(masker, Text({9, 1}), trial).rows, std::vector<std::int32_t>{10});
    EXPECT_TRUE(mask(masker, Text({10}), trial).rows.empty());
  }
}

TEST(MlmMasking, TargetsAreTheOriginalsAndTheRestIsUntouched) {
  const Text text({1, 3, 2, 5, 1, 1, 2, 8, 1, 1, 1, 2, 2, 2});
  const MlmMasker masker = make_masker(Masking::whole_word);
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    Masked masked = mask(masker, text, trial, 1000);
    ASSERT_TRUE(std::is_sorted(masked.rows.begin(), masked.rows.end()));
    ASSERT_EQ(masked.rows.size(), masked.targets.size());
    for (std::size_t i = 0; i < masked.rows.size(); ++i) {
      masked.ids[static_cast<std::size_t>(masked.rows[i] - 1000)] = masked.targets[i];
    }
    ASSERT_EQ(masked.ids, text.ids);
  }
}

TEST(MlmMasking, MaskingIsAPureFunctionOfItsStream) {
  const Text text(std::vector<int>(60, 2));
  const MlmMasker masker = make_masker(Masking::whole_word);
  const Masked a = mask(masker, text, 5), b = mask(masker, text, 5), c = mask(masker, text, 6);
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_NE(a.rows, c.rows);
}

TEST(MlmMasking, OptionsOutOfRange) {
  EXPECT_THROW(make_masker(Masking::token, 0.0), InputError);
  EXPECT_THROW(make_masker(Masking::token, 1.0), InputError);
  EXPECT_THROW(make_masker(Masking::token, std::nan("")), InputError);
  EXPECT_THROW(make_masker(Masking::token, 0.15, -1), InputError);
  EXPECT_THROW(parse_masking("word"), InputError);
  EXPECT_EQ(parse_masking(masking_name(Masking::token)), Masking::token);
}

}  // namespace
}  // namespace bert
