#include "data/shards/token_shard.h"

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

void expect_round_trip(std::int32_t vocab_size) {
  const TemporaryFolder folder;
  auto documents = counting_documents(varied_lengths(60), 3);
  documents[3].ids[0] = vocab_size - 1;
  TokenShardWriter writer(folder.path(), vocab_size);
  for (const TokenizedDocument& document : documents) writer.append(document);
  const FileDigests digests = writer.commit();

  const TokenShard shard(folder.path(), vocab_size);
  shard.verify();
  EXPECT_EQ(shard.digests(), digests);
  ASSERT_EQ(shard.num_documents(), documents.size());
  std::uint64_t tokens = 0, sentences = 0, words = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const TokenizedDocument read = shard.document(i);
    EXPECT_EQ(read.ids, documents[i].ids);
    EXPECT_EQ(read.word_starts, documents[i].word_starts);
    EXPECT_EQ(read.sentence_ends, documents[i].sentence_ends);
    for (std::size_t k = 0; k < read.ids.size(); ++k) {
      EXPECT_EQ(shard.starts_word(tokens + k), documents[i].word_starts[k] != 0);
      words += documents[i].word_starts[k];
    }
    tokens += read.ids.size();
    sentences += read.sentence_ends.size();
  }
  EXPECT_EQ(shard.num_tokens(), tokens);
  EXPECT_EQ(shard.num_sentences(), sentences);
  EXPECT_EQ(writer.num_words(), words);
}

TEST(TokenShard, RoundTripIn16Bits) { expect_round_trip(65536); }

TEST(TokenShard, RoundTripIn32Bits) { expect_round_trip(65537); }

TEST(TokenShard, WidthFollowsTheVocabulary) {
  for (const auto& [vocab_size, bytes] : {std::pair{65536, 2}, std::pair{65537, 4}}) {
    const TemporaryFolder folder;
    TokenShardWriter writer(folder.path(), vocab_size);
    writer.append(counting_documents({{1000}})[0]);
    writer.commit();
    // 1000 elements, one checksum, the footer.
    EXPECT_EQ(std::filesystem::file_size(folder / "tokens.bin"), 1000u * bytes + 8 + 64);
    EXPECT_THROW(TokenShard(folder.path(), vocab_size == 65536 ? 65537 : 65536), InputError);
  }
}

TEST(TokenShard, EmptySentencesAndDocumentsAreLeftOut) {
  const TemporaryFolder folder;
  TokenizedDocument document;
  document.add_sentence({});
  TokenShardWriter writer(folder.path(), 100);
  writer.append(document);
  document.add_sentence({{7, 0, 1, true}, {8, 1, 2, false}});
  document.add_sentence({});
  writer.append(document);
  writer.commit();
  const TokenShard shard(folder.path(), 100);
  EXPECT_EQ(shard.num_documents(), 1u);
  EXPECT_EQ(shard.num_sentences(), 1u);
  EXPECT_EQ(shard.num_tokens(), 2u);
  shard.verify();
}

TEST(TokenShard, IdsOutsideTheVocabularyAreRefused) {
  const TemporaryFolder folder;
  TokenShardWriter writer(folder.path(), 100);
  TokenizedDocument document;
  document.add_sentence({{100, 0, 1, true}});
  EXPECT_THROW(writer.append(document), RuntimeError);
}

TEST(TokenShard, FilesOfDifferentShardsAreRefused) {
  const TemporaryFolder a, b;
  for (const auto& [folder, length] : {std::pair{&a, 16u}, std::pair{&b, 32u}}) {
    TokenShardWriter writer(folder->path(), 100);
    writer.append(counting_documents({{length}})[0]);
    writer.commit();
  }
  std::filesystem::copy_file(b / "tokens.bin", a / "tokens.bin",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THROW(TokenShard(a.path(), 100), InputError);
}

}  // namespace
}  // namespace bert
