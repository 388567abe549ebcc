#include "train/logging/tensorboard_writer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/file.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

class TensorboardTest : public testing::Test {
 protected:
  TensorboardTest()
      : folder_(fs::temp_directory_path() / ("bert_tensorboard_" + std::to_string(::getpid()))) {}
  ~TensorboardTest() override { fs::remove_all(folder_); }
  fs::path folder_;
};

std::uint32_t u32_at(const std::string& text, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, text.data() + at, sizeof value);
  return value;
}

// The inverse of the masking, so that it is not tested against itself.
std::uint32_t unmask(std::uint32_t masked) {
  const std::uint32_t rotated = masked - 0xa282ead8u;
  return (rotated >> 17) | (rotated << 15);
}

// The data of each record, checksums checked.
std::vector<std::string> read_records(const fs::path& path) {
  const std::string content = read_file(path);
  std::vector<std::string> records;
  std::size_t at = 0;
  while (at + 16 <= content.size()) {
    std::uint64_t length = 0;
    std::memcpy(&length, content.data() + at, sizeof length);
    EXPECT_EQ(unmask(u32_at(content, at + 8)), crc32c(content.substr(at, 8)));
    records.push_back(content.substr(at + 12, length));
    EXPECT_EQ(unmask(u32_at(content, at + 12 + length)), crc32c(records.back()));
    at += 16 + length;
  }
  EXPECT_EQ(at, content.size());
  return records;
}

// An event begins with its wall time: a key and eight bytes.
double wall_time(const std::string& event) {
  double value = 0;
  EXPECT_EQ(event[0], '\x09');
  std::memcpy(&value, event.data() + 1, sizeof value);
  return value;
}

std::string hex(const std::string& data) {
  std::string text;
  for (const char c : data) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

// The bytes that TensorBoard's own messages serialise to.
TEST(TensorboardEvents, AreThoseOfTensorboard) {
  EXPECT_EQ(hex(tensorboard::version_event(1.5)),
            "09000000000000f83f1a0d627261696e2e4576656e743a32");
  EXPECT_EQ(hex(tensorboard::start_event(1.5, 300)), "09000000000000f83f10ac023a020801");
  EXPECT_EQ(hex(tensorboard::start_event(1.5, 128)), "09000000000000f83f1080013a020801");
  EXPECT_EQ(hex(tensorboard::start_event(1.5, 127)), "09000000000000f83f107f3a020801");
  EXPECT_EQ(hex(tensorboard::scalar_event(1700000000.25, 300, "train/loss", 4.25f)),
            "0900001040fc54d94110ac022a130a110a0a747261696e2f6c6f73731500008840");
  std::string xs;
  for (int i = 0; i < 200; ++i) xs += "78";
  EXPECT_EQ(
      hex(tensorboard::text_event(1.5, 5000000000, "samples", "**b**\xff" + std::string(200, 'x'))),
      "09000000000000f83f1080e497d0122af2010aef010a0773616d706c657342d901080712041202080142ce"
      "012a2a622a2aff" +
          xs + "4a080a060a0474657874");
}

// The bytes that TensorBoard's own messages serialise to.
TEST(TensorboardEvents, AHistogramIsThatOfTensorboard) {
  const tensorboard::Histogram histogram{.min = -1,
                                         .max = 3,
                                         .num = 3,
                                         .sum = 2.5,
                                         .sum_squares = 10.25,
                                         .limits = {0.0, 2.0, 4.0},
                                         .counts = {1, 1, 1}};
  EXPECT_EQ(hex(tensorboard::histogram_event(1.5, 300, "norms", histogram)),
            "09000000000000f83f10ac022a6c0a6a0a056e6f726d732a6109000000000000f0bf110000000000000840"
            "19000000000000084021000000000000044029000000000080244032180000000000000000000000000000"
            "004000000000000010403a18000000000000f03f000000000000f03f000000000000f03f");
}

TEST(TensorboardHistogram, CountsEveryFiniteValueOnce) {
  const std::vector<double> values = {0.5,    0.5001, -2.0,    0.0,      1e-13,       7.0,
                                      -1e-20, 1e-12,  1.1e-12, HUGE_VAL, std::nan("")};
  const tensorboard::Histogram h = tensorboard::make_histogram(values);
  EXPECT_EQ(h.num, 9);
  EXPECT_EQ(h.min, -2.0);
  EXPECT_EQ(h.max, 7.0);
  EXPECT_DOUBLE_EQ(h.sum, 0.5 + 0.5001 - 2.0 + 7.0 + 1e-13 - 1e-20 + 2.1e-12);
  EXPECT_DOUBLE_EQ(h.sum_squares, 0.25 + 0.5001 * 0.5001 + 4.0 + 49.0);
  ASSERT_EQ(h.limits.size(), h.counts.size());
  ASSERT_GT(h.limits.size(), 2u);
  double before = -HUGE_VAL, counted = 0;
  for (std::size_t i = 0; i < h.limits.size(); ++i) {
    EXPECT_GT(h.limits[i], before);
    const auto inside = std::count_if(values.begin(), values.end(), [&](double value) {
      return value >= before && value < h.limits[i];
    });
    EXPECT_EQ(h.counts[i], static_cast<double>(inside)) << "up to " << h.limits[i];
    before = h.limits[i];
    counted += h.counts[i];
  }
  EXPECT_EQ(counted, 9);
  EXPECT_GT(h.counts.front(), 0);  // no bucket more than is needed
  EXPECT_GT(h.counts.back(), 0);
  EXPECT_NE(std::find(h.limits.begin(), h.limits.end(), 0.0), h.limits.end());

  const tensorboard::Histogram one = tensorboard::make_histogram({3.0});
  ASSERT_EQ(one.counts, std::vector<double>{1.0});
  EXPECT_GT(one.limits[0], 3.0);
  EXPECT_LT(one.limits[0], 3.31);
  EXPECT_EQ(tensorboard::make_histogram({std::nan("")}).num, 0);
}

TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  // RFC 3720, B.4.
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
}

TEST_F(TensorboardTest, ScalarsAndTexts) {
  TensorboardWriter writer(folder_ / "deep");
  writer.scalar("train/loss", 4.25, 10);
  writer.text("samples", "**bold** \xff", 20);
  EXPECT_TRUE(writer.path().filename().string().starts_with("events.out.tfevents."));
  const std::vector<std::string> records = read_records(writer.path());
  ASSERT_EQ(records.size(), 3u);
  const double time = wall_time(records[0]);
  EXPECT_NEAR(time, static_cast<double>(std::time(nullptr)), 60.0);
  EXPECT_EQ(records[0], tensorboard::version_event(time));
  EXPECT_EQ(records[1], tensorboard::scalar_event(wall_time(records[1]), 10, "train/loss", 4.25f));
  EXPECT_EQ(records[2],
            tensorboard::text_event(wall_time(records[2]), 20, "samples", "**bold** \xff"));
}

TEST(MarkdownCell, ShowsATextAsItIs) {
  EXPECT_EQ(markdown_cell("a cat that[97.6%] sat."), "a cat that\\[97.6%] sat.");
  EXPECT_EQ(markdown_cell("a|b `c` *d* _e_ \\"), "a\\|b \\`c\\` \\*d\\* \\_e\\_ \\\\");
  EXPECT_EQ(markdown_cell("1 < 2\r\n&lt;"), "1 &lt; 2  &amp;lt;");
}

TEST_F(TensorboardTest, Histograms) {
  TensorboardWriter writer(folder_);
  writer.histogram("norms", {0.5, 2.0}, 10);
  writer.histogram("norms", {std::nan("")}, 20);
  const std::vector<std::string> records = read_records(writer.path());
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1], tensorboard::histogram_event(wall_time(records[1]), 10, "norms",
                                                     tensorboard::make_histogram({0.5, 2.0})));
}

TEST_F(TensorboardTest, AResumedRunHasItsOwnFileAndVoidsWhatItRepeats) {
  const TensorboardWriter first(folder_);
  const TensorboardWriter second(folder_, 21);
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path(), second.path());
  const std::vector<std::string> records = read_records(second.path());
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[1], tensorboard::start_event(wall_time(records[1]), 21));
  EXPECT_EQ(read_records(first.path()).size(), 1u);
}

TEST_F(TensorboardTest, AnUnwritableFolderIsNamed) {
  write_file_atomic(fs::temp_directory_path() / folder_.filename(), "a file");
  try {
    TensorboardWriter writer(folder_ / "x");
    FAIL() << "no error";
  } catch (const RuntimeError& error) {
    EXPECT_NE(std::string(error.what()).find(folder_.string()), std::string::npos);
  }
}

}  // namespace
}  // namespace bert
