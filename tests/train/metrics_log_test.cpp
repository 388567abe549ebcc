#include "train/logging/metrics_log.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/file.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class MetricsLogTest : public testing::Test {
 protected:
  MetricsLogTest()
      : folder_(fs::temp_directory_path() / ("bert_metrics_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
    path_ = folder_ / "metrics.jsonl";
  }
  ~MetricsLogTest() override { fs::remove_all(folder_); }
  fs::path folder_, path_;
};

TEST(MetricsLine, DoublesAreShortAndReadBackTheSame) {
  EXPECT_EQ(
      format_metrics_line({{"step", 3},
                           {"loss", 0.1},
                           {"rate", 1e-4},
                           {"whole", 2.0},
                           {"text", "a\"b"},
                           {"nan", std::nan("")},
                           {"yes", true}}),
      R"({"step": 3, "loss": 0.1, "rate": 0.0001, "whole": 2.0, "text": "a\"b", "nan": null, )"
      R"("yes": true})");
  EXPECT_EQ(format_metrics_line({{"step", 1}, {"x", -std::numeric_limits<double>::infinity()}}),
            R"({"step": 1, "x": null})");
  std::uint64_t state = 88172645463325252u;
  for (int i = 0; i < 20000; ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    double value = 0;
    std::memcpy(&value, &state, sizeof value);
    if (!std::isfinite(value)) continue;
    const std::string line = format_metrics_line({{"x", value}});
    EXPECT_EQ(Json::parse(line)["x"].get<double>(), value) << line;
    EXPECT_TRUE(Json::parse(line)["x"].is_number_float()) << line;
    EXPECT_LE(line.size(), 32u);
  }
}

TEST_F(MetricsLogTest, AppendsAndIsThereAtOnce) {
  MetricsLog log(path_, 0);
  log.append({{"step", 1}, {"loss", 2.5}});
  EXPECT_EQ(read_file(path_), "{\"step\": 1, \"loss\": 2.5}\n");
  log.append({{"step", 2}, {"loss", 2.25}});
  EXPECT_EQ(read_file(path_), "{\"step\": 1, \"loss\": 2.5}\n{\"step\": 2, \"loss\": 2.25}\n");
  EXPECT_THROW(log.append({{"loss", 1.0}}), RuntimeError);
}

TEST_F(MetricsLogTest, AResumedRunCutsBackToItsStep) {
  const std::string kept = "{\"step\": 1}\n{\"step\":2, \"loss\": 1}\n{\"step\": 2, \"val\": 3}\n";
  write_file_atomic(path_, kept + "{\"step\": 3}\n{\"step\": 4, \"lo");
  {
    MetricsLog log(path_, 2);
    EXPECT_EQ(read_file(path_), kept);
    log.append({{"step", 3}});
  }
  EXPECT_EQ(read_file(path_), kept + "{\"step\": 3}\n");
  // In whatever order the steps are.
  write_file_atomic(path_, "{\"step\": 3}\n" + kept);
  cut_metrics_log(path_, 2);
  EXPECT_EQ(read_file(path_), kept);
  write_file_atomic(path_, "{\"step\": 1}\n{\"step\": 3}\n{\"step\": 2}\n{\"step\": 4}\n");
  cut_metrics_log(path_, 2);
  EXPECT_EQ(read_file(path_), "{\"step\": 1}\n{\"step\": 2}\n");
  // A half-written last line goes even where no step is to go.
  write_file_atomic(path_, kept + "{\"step\": 2}");
  cut_metrics_log(path_, 9);
  EXPECT_EQ(read_file(path_), kept);
  MetricsLog fresh(path_, 0);
  EXPECT_EQ(read_file(path_), "");
}

TEST_F(MetricsLogTest, OtherDamageIsNamed) {
  for (const char* line : {"nonsense", "[1]", "{\"loss\": 1}", "{\"step\": 1.5}", "",
                           "{\"step\": 18446744073709551615}"}) {
    const std::string content = std::string("{\"step\": 1}\n") + line + "\n{\"step\": 2}\n";
    write_file_atomic(path_, content);
    try {
      cut_metrics_log(path_, 1);
      ADD_FAILURE() << "no error: " << line;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(path_.string() + ":2"), std::string::npos);
    }
    EXPECT_EQ(read_file(path_), content);  // untouched
  }
}

}  // namespace
}  // namespace bert
