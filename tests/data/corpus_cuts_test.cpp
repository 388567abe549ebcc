#include "data/shards/corpus_cuts.h"

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

TokenShard make_shard(const TemporaryFolder& folder,
                      const std::vector<std::vector<std::uint32_t>>& lengths,
                      std::uint32_t word_length = 2) {
  TokenShardWriter writer(folder.path(), 1 << 20);
  for (const auto& document : counting_documents(lengths, word_length)) writer.append(document);
  writer.commit();
  return TokenShard(folder.path(), 1 << 20);
}

std::vector<std::uint64_t> cut_tokens(const TokenShard& shard, Sampling sampling, int content) {
  std::vector<std::uint64_t> tokens;
  find_cuts(shard, {sampling, content}, [&](const Cut& cut) { tokens.push_back(cut.token); });
  return tokens;
}

using Places = std::vector<std::uint64_t>;

TEST(CorpusCuts, SentencesArePackedWithinADocument) {
  const TemporaryFolder folder;
  const TokenShard shard = make_shard(folder, {{4, 4, 4, 2}, {3}, {10, 1}});
  // 4+4, 4+2 | 3 | 10, 1
  EXPECT_EQ(cut_tokens(shard, Sampling::sentences, 10), (Places{0, 8, 14, 17, 27, 28}));
  // 10 + 1 fit together.
  EXPECT_EQ(cut_tokens(shard, Sampling::sentences, 11), (Places{0, 8, 14, 17, 28}));
}

TEST(CorpusCuts, OverlongSentencesAreCutAtWordsAndFillSamples) {
  const TemporaryFolder folder;
  // Words of 3 tokens. The sentence of 20 is cut: 3 tokens beside the first sentence, 6, 6, and 5
  // left, beside which the sentence of 4 does not fit.
  const TokenShard shard = make_shard(folder, {{3, 20, 4, 5}}, 3);
  EXPECT_EQ(cut_tokens(shard, Sampling::sentences, 7), (Places{0, 6, 12, 18, 23, 27, 32}));
  EXPECT_EQ(cut_tokens(shard, Sampling::sentences, 9), (Places{0, 9, 18, 27, 32}));
  // No word of it fits beside the sentence of 3.
  EXPECT_EQ(cut_tokens(shard, Sampling::sentences, 5),
            (Places{0, 3, 6, 9, 12, 15, 18, 23, 27, 32}));
}

TEST(CorpusCuts, AWordLongerThanASampleIsCutAnywhere) {
  const TemporaryFolder folder;
  const TokenShard shard = make_shard(folder, {{20}}, 20);
  EXPECT_EQ(cut_tokens(shard, Sampling::sentences, 8), (Places{0, 8, 16, 20}));
}

TEST(CorpusCuts, ChunksAreEqualPiecesOfADocument) {
  const TemporaryFolder folder;
  const TokenShard shard = make_shard(folder, {{4, 4, 4, 2}, {3}, {10, 1}}, 3);
  EXPECT_EQ(cut_tokens(shard, Sampling::chunks, 5), (Places{0, 5, 10, 14, 17, 22, 27, 28}));
}

TEST(CorpusCuts, PartitionTheTokensAndKnowTheirPlace) {
  const TemporaryFolder folder;
  const TokenShard shard = make_shard(folder, varied_lengths(200), 3);
  for (const Sampling sampling : {Sampling::sentences, Sampling::chunks}) {
    for (const std::int64_t content : {5, 30, 126, 1000}) {
      std::vector<Cut> cuts;
      find_cuts(shard, {sampling, content}, [&](const Cut& cut) { cuts.push_back(cut); });
      ASSERT_EQ(cuts.front().token, 0u);
      ASSERT_EQ(cuts.back().token, shard.num_tokens());
      ASSERT_EQ(cuts.back().sentence, shard.num_sentences());
      ASSERT_EQ(cuts.back().document, shard.num_documents());
      for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
        const Cut &cut = cuts[i], &next = cuts[i + 1];
        ASSERT_LT(cut.token, next.token);
        ASSERT_LE(next.token - cut.token, static_cast<std::uint64_t>(content));
        ASSERT_LE(shard.sentence_begin(cut.sentence), cut.token);
        ASSERT_GT(shard.sentence_begin(cut.sentence + 1), cut.token);
        ASSERT_LE(shard.document_begin(cut.document), cut.sentence);
        ASSERT_GT(shard.document_begin(cut.document + 1), cut.sentence);
        const std::uint64_t document_end =
            shard.sentence_begin(shard.document_begin(cut.document + 1));
        ASSERT_LE(next.token, document_end);
        if (sampling == Sampling::chunks || next.token == document_end) continue;
        // Full: the next sentence, or where that is to be cut its next word, would have been too
        // much. A sentence is cut only if it is too long for any sample.
        const std::uint64_t sentence_begin = shard.sentence_begin(next.sentence);
        std::uint64_t next_end = shard.sentence_begin(next.sentence + 1);
        const bool overlong = next_end - sentence_begin > static_cast<std::uint64_t>(content);
        ASSERT_TRUE(overlong || sentence_begin == next.token);
        if (overlong) {
          next_end = next.token + 1;
          while (next_end < document_end && !shard.starts_word(next_end)) ++next_end;
        }
        ASSERT_GT(next_end - cut.token, static_cast<std::uint64_t>(content));
      }
    }
  }
}

TEST(CorpusCuts, StoredAndComputedAreTheSame) {
  const TemporaryFolder folder, tables;
  const TokenShard shard = make_shard(folder, varied_lengths(100));
  for (const Sampling sampling : {Sampling::sentences, Sampling::chunks}) {
    const CutTable computed(tables.path(), shard, {sampling, 62});
    EXPECT_FALSE(computed.mapped());
    write_cuts(tables.path(), shard, {sampling, 62});
    const CutTable stored(tables.path(), shard, {sampling, 62});
    EXPECT_TRUE(stored.mapped());
    ASSERT_EQ(stored.num_samples(), computed.num_samples());
    for (std::uint64_t i = 0; i <= stored.num_samples(); ++i) {
      ASSERT_EQ(stored[i].token, computed[i].token);
      ASSERT_EQ(stored[i].sentence, computed[i].sentence);
      ASSERT_EQ(stored[i].document, computed[i].document);
    }
  }
}

TEST(CorpusCuts, SamplesOfADocument) {
  const TemporaryFolder folder;
  const TokenShard shard = make_shard(folder, varied_lengths(50));
  const CutTable cuts(folder / "none", shard, {Sampling::sentences, 20});
  for (std::uint64_t i = 0; i < cuts.num_samples(); ++i) {
    const auto [first, last] = cuts.samples_of_document(i);
    ASSERT_TRUE(first <= i && i < last);
    for (std::uint64_t k = first; k < last; ++k) ASSERT_EQ(cuts[k].document, cuts[i].document);
    ASSERT_TRUE(first == 0 || cuts[first - 1].document != cuts[i].document);
    ASSERT_NE(cuts[last].document, cuts[i].document);
  }
}

TEST(CorpusCuts, ATableOfOtherTokensIsRefused) {
  const TemporaryFolder a, b;
  const TokenShard shard = make_shard(a, {{10}}), other = make_shard(b, {{11}});
  write_cuts(a.path(), other, {Sampling::sentences, 62});
  EXPECT_THROW(CutTable(a.path(), shard, {Sampling::sentences, 62}), InputError);
}

TEST(CorpusCuts, SamplingNames) {
  EXPECT_EQ(parse_sampling("sentences"), Sampling::sentences);
  EXPECT_EQ(parse_sampling(sampling_name(Sampling::chunks)), Sampling::chunks);
  EXPECT_THROW(parse_sampling("sentence"), InputError);
}

}  // namespace
}  // namespace bert
