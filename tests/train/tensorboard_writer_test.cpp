#include "train/tensorboard_writer.h"

#include <cstring>

#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tensorboard_event.pb.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using tensorboard::Event;

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

std::vector<Event> read_events(const fs::path& path) {
  const std::string content = read_file(path);
  std::vector<Event> events;
  std::size_t at = 0;
  while (at < content.size()) {
    std::uint64_t length = 0;
    std::memcpy(&length, content.data() + at, sizeof length);
    EXPECT_EQ(unmask(u32_at(content, at + 8)), crc32c(content.substr(at, 8)));
    const std::string data = content.substr(at + 12, length);
    EXPECT_EQ(unmask(u32_at(content, at + 12 + length)), crc32c(data));
    EXPECT_TRUE(events.emplace_back().ParseFromString(data));
    at += 16 + length;
  }
  EXPECT_EQ(at, content.size());
  return events;
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
  writer.flush();
  EXPECT_TRUE(writer.path().filename().string().starts_with("events.out.tfevents."));
  const std::vector<Event> events = read_events(writer.path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_GT(events[0].wall_time(), 1.6e9);
  EXPECT_EQ(events[1].step(), 10);
  EXPECT_EQ(events[1].summary().value(0).tag(), "train/loss");
  EXPECT_EQ(events[1].summary().value(0).simple_value(), 4.25f);
  const auto& text = events[2].summary().value(0);
  EXPECT_EQ(text.metadata().plugin_data().plugin_name(), "text");
  EXPECT_EQ(text.tensor().dtype(), 7);
  EXPECT_EQ(text.tensor().tensor_shape().dim(0).size(), 1);
  EXPECT_EQ(text.tensor().string_val(0), "**bold** \xff");
}

TEST_F(TensorboardTest, AResumedRunHasItsOwnFileAndVoidsWhatItRepeats) {
  const TensorboardWriter first(folder_);
  const TensorboardWriter second(folder_, 21);
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path(), second.path());
  const std::vector<Event> events = read_events(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].step(), 21);
  EXPECT_EQ(events[1].session_log().status(), 1);
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
