#include "train/logging/record_file.h"

#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/data/corpus_fixture.h"
#include "tests/train/full_disk.h"
#include "train/logging/metrics_log.h"

namespace bert {
namespace {

class RecordFileTest : public testing::Test {
 protected:
  RecordFile::Warn collect() {
    return [this](const std::string& text) { warnings_.push_back(text); };
  }
  TemporaryFolder folder_;
  std::vector<std::string> warnings_;
};

TEST_F(RecordFileTest, WhatAFullDiskRefusesWaitsAndIsWrittenOnceInOrder) {
  RecordFile file(folder_ / "f", collect());
  file.append("one\n");
  {
    const FullDisk disk(10);
    file.append("two two\n");  // six of its eight bytes would fit
    EXPECT_EQ(read_file(folder_ / "f"), "one\n");
    EXPECT_EQ(file.waiting(), 1u);
    ASSERT_EQ(warnings_.size(), 1u);
    EXPECT_NE(warnings_[0].find("cannot write " + (folder_ / "f").string() + ": File too large"),
              std::string::npos)
        << warnings_[0];
    file.append("three\n");  // what is first in order is tried first
    EXPECT_FALSE(file.flush());
    EXPECT_EQ(read_file(folder_ / "f"), "one\n");
    EXPECT_EQ(warnings_.size(), 1u);  // once
    try {
      file.finish();
      ADD_FAILURE() << "no error";
    } catch (const RuntimeError& error) {
      EXPECT_NE(std::string(error.what()).find("it lacks its last 2 records"), std::string::npos)
          << error.what();
    }
  }
  file.append("four\n");
  EXPECT_EQ(read_file(folder_ / "f"), "one\ntwo two\nthree\nfour\n");
  ASSERT_EQ(warnings_.size(), 2u);
  EXPECT_NE(warnings_[1].find("written again; records that had waited: 3"), std::string::npos);
  file.finish();
  // A second outage is told of again.
  const FullDisk disk(20);
  file.append("five\n");
  EXPECT_EQ(warnings_.size(), 3u);
}

TEST_F(RecordFileTest, ClosingTriesALastTime) {
  {
    RecordFile file(folder_ / "f", collect());
    {
      const FullDisk disk(0);
      file.append("one\n");
      file.append("two\n");
    }
    EXPECT_EQ(read_file(folder_ / "f"), "");
  }
  EXPECT_EQ(read_file(folder_ / "f"), "one\ntwo\n");
}

TEST_F(RecordFileTest, GoesOnBehindWhatIsThere) {
  write_file_atomic(folder_ / "f", "before\n");
  RecordFile file(folder_ / "f", collect());
  const FullDisk disk(9);
  file.append("after\n");
  EXPECT_EQ(read_file(folder_ / "f"), "before\n");
}

TEST_F(RecordFileTest, AFolderThatIsNotThereIsNamed) {
  EXPECT_THROW(RecordFile(folder_ / "no" / "f", collect()), RuntimeError);
}

TEST_F(RecordFileTest, MetricsGoOnToo) {
  MetricsLog log(folder_ / "metrics.jsonl", 0, collect());
  log.append({{"step", 1}});
  {
    const FullDisk disk(16);
    log.append({{"step", 2}});
    EXPECT_THROW(log.finish(), RuntimeError);
  }
  log.append({{"step", 3}});
  log.finish();
  EXPECT_EQ(read_file(folder_ / "metrics.jsonl"), "{\"step\": 1}\n{\"step\": 2}\n{\"step\": 3}\n");
}

}  // namespace
}  // namespace bert
