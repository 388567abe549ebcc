#include "data/shards/corpus_file.h"

#include <numeric>

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

std::uint64_t write_numbers(const std::filesystem::path& path, std::size_t count) {
  CorpusFileWriter writer(path, "numbers", sizeof(std::uint32_t));
  for (std::uint32_t i = 0; i < count; ++i) writer.append_value(i * 2654435761u);
  return writer.commit();
}

TEST(CorpusFile, RoundTrip) {
  const TemporaryFolder folder;
  const std::size_t block = kCorpusBlockBytes / sizeof(std::uint32_t);
  for (const std::size_t count :
       {std::size_t{0}, std::size_t{1}, block - 1, block, block + 1, 3 * block + 5}) {
    const std::uint64_t digest = write_numbers(folder / "a", count);
    const CorpusArray<std::uint32_t> array(folder / "a", "numbers");
    ASSERT_EQ(array.size(), count);
    EXPECT_EQ(array.file().digest(), digest);
    const auto all = array.span(0, count);
    for (std::uint32_t i = 0; i < count; ++i) ASSERT_EQ(all[i], i * 2654435761u);
    array.file().verify();
  }
}

TEST(CorpusFile, LargeAppendCrossesBlocks) {
  const TemporaryFolder folder;
  std::vector<std::uint32_t> values(600'000);
  std::iota(values.begin(), values.end(), 0u);
  CorpusFileWriter writer(folder / "a", "numbers", 4);
  writer.append(values.data(), values.size() * 4);
  writer.commit();
  const CorpusArray<std::uint32_t> array(folder / "a", "numbers");
  const auto all = array.span(0, array.size());
  EXPECT_TRUE(std::equal(all.begin(), all.end(), values.begin(), values.end()));
}

TEST(CorpusFile, EveryBitFlipIsCaught) {
  const TemporaryFolder folder;
  write_numbers(folder / "a", 25);
  const std::string good = read_file(folder / "a");
  for (std::uint64_t bit = 0; bit < 8 * good.size(); ++bit) {
    write_text(folder / "a", good);
    flip_bit(folder / "a", bit);
    EXPECT_THROW(CorpusFile(folder / "a", "numbers", 4).verify(), InputError) << "bit " << bit;
  }
}

TEST(CorpusFile, EveryTruncationIsCaught) {
  const TemporaryFolder folder;
  write_numbers(folder / "a", 25);
  const std::string good = read_file(folder / "a");
  for (std::size_t size = 0; size < good.size(); ++size) {
    write_text(folder / "a", good.substr(0, size));
    EXPECT_THROW(CorpusFile(folder / "a", "numbers", 4).verify(), InputError) << "size " << size;
  }
  write_text(folder / "a", good + "x");
  EXPECT_THROW(CorpusFile(folder / "a", "numbers", 4).verify(), InputError);
  // The end is right, but something in front of it is missing or too much.
  write_text(folder / "a", good.substr(8));
  EXPECT_THROW(CorpusFile(folder / "a", "numbers", 4), InputError);
  write_text(folder / "a", "12345678" + good);
  EXPECT_THROW(CorpusFile(folder / "a", "numbers", 4), InputError);
  write_numbers(folder / "a", 600'000);
  write_text(folder / "a", read_file(folder / "a").substr(2 * kCorpusBlockBytes));
  try {
    CorpusFile(folder / "a", "numbers", 4);
    FAIL() << "a file without its beginning was opened";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("expected 2400088"), std::string::npos)
        << error.what();
  }
}

TEST(CorpusFile, DamageIsSeenAtFirstTouchAndNamed) {
  const TemporaryFolder folder;
  write_numbers(folder / "a", 600'000);
  flip_bit(folder / "a", 8 * (kCorpusBlockBytes + 12));
  const CorpusArray<std::uint32_t> array(folder / "a", "numbers");
  EXPECT_EQ(array[0], 0u);
  EXPECT_EQ(array[599'999], 599'999u * 2654435761u);
  try {
    array[kCorpusBlockBytes / 4];
    FAIL() << "the damaged block was read";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find((folder / "a").string()), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("1048576 to 2097151"), std::string::npos)
        << error.what();
  }
}

TEST(CorpusFile, OtherContentIsRefused) {
  const TemporaryFolder folder;
  write_numbers(folder / "a", 10);
  EXPECT_THROW(CorpusArray<std::uint32_t>(folder / "a", "tokens"), InputError);
  EXPECT_THROW(CorpusArray<std::uint16_t>(folder / "a", "numbers"), InputError);
  EXPECT_THROW(CorpusArray<std::uint32_t>(folder / "none", "numbers"), InputError);
}

TEST(CorpusFile, NothingIsLeftWithoutCommit) {
  const TemporaryFolder folder;
  { CorpusFileWriter(folder / "a", "numbers", 4).append_value(1); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace bert
