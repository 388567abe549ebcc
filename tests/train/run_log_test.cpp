// RunLog: what ends up in which file, after a resume and on a full disk too.
#include "train/run_log.h"

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/data/corpus_fixture.h"
#include "tests/train/full_disk.h"

namespace bert {
namespace {

using Json = nlohmann::ordered_json;

class RunLogTest : public testing::Test {
 protected:
  std::vector<Json> lines(const char* name) const {
    const std::string content = read_file(folder_ / name);
    std::vector<Json> records;
    for (std::size_t begin = 0, end; (end = content.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      records.push_back(Json::parse(content.substr(begin, end - begin)));
    }
    return records;
  }
  // Of all event files.
  std::string tensorboard() const {
    std::string all;
    for (const auto& file : std::filesystem::directory_iterator(folder_ / "tensorboard")) {
      all += read_file(file.path());
    }
    return all;
  }
  static Json prediction(int step, int sample, const char* predicted) {
    return {{"step", step},
            {"sample", sample},
            {"text", "a cat"},
            {"masked", "a [MASK]"},
            {"predicted", predicted}};
  }

  TemporaryFolder folder_;
};

TEST_F(RunLogTest, EventsAreHistory) {
  {
    RunLog log(folder_.path(), 0, 10, false);
    log.event(RunEvent::start, 0, "");
    log.event(RunEvent::best, 4, "a validation");
    log.event(RunEvent::skip, 8, "it was skipped");
    log.metrics({{"step", 8}, {"loss", 1.0}}, "train");
    log.finish();
  }
  {
    RunLog log(folder_.path(), 4, 10, false);
    log.event(RunEvent::resume, 4, "");
    log.finish();
  }
  const std::vector<Json> events = lines("events.jsonl");
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0]["kind"], "start");
  EXPECT_EQ(events[2]["step"], 8);  // of a later step than the one gone back to: it did happen
  EXPECT_EQ(events[2]["kind"], "skip");
  EXPECT_EQ(events[2]["text"], "it was skipped");
  EXPECT_EQ(events[3]["kind"], "resume");
  const std::string time = events[0]["time"];
  ASSERT_EQ(time.size(), 20u);
  EXPECT_EQ(time[10], 'T');
  EXPECT_EQ(time.back(), 'Z');
  EXPECT_TRUE(lines("metrics.jsonl").empty());  // cut back
  EXPECT_EQ(read_file(folder_ / "log.txt"),
            "step 4: a validation\nwarning: step 8: it was skipped\n");
}

TEST_F(RunLogTest, GradientNormsHaveTheirOwnFile) {
  RunLog log(folder_.path(), 0, 10, true);
  log.gradient_norms(
      5, {.layers = {{"embeddings", 0.5}, {"layer_00", 0.25}}, .parameters = {0.3, 0.4, 0.25}});
  log.finish();
  ASSERT_EQ(lines("gradient_norms.jsonl").size(), 1u);
  EXPECT_EQ(lines("gradient_norms.jsonl")[0],
            Json({{"step", 5}, {"embeddings", 0.5}, {"layer_00", 0.25}}));
  EXPECT_TRUE(lines("metrics.jsonl").empty());
  for (const char* tag :
       {"gradient_norm/embeddings", "gradient_norm/layer_00", "gradient_norm/parameters"}) {
    EXPECT_NE(tensorboard().find(tag), std::string::npos) << tag;
  }
}

TEST_F(RunLogTest, PredictionsOfTheFirstSamplesAreLogged) {
  RunLog log(folder_.path(), 0, 10, true);
  for (int sample = 0; sample < 5; ++sample) log.prediction(prediction(5, sample, "a dog[2.0%]"));
  EXPECT_EQ(lines("predictions.jsonl").size(), 5u);
  EXPECT_EQ(read_file(folder_ / "log.txt"),
            "  e.g. a dog[2.0%]\n  e.g. a dog[2.0%]\n  e.g. a dog[2.0%]\n");
}

TEST_F(RunLogTest, AResumeReadsWhatTheViewHadShown) {
  {
    RunLog log(folder_.path(), 0, 10, false);
    for (int step = 1; step <= 6; ++step) {
      log.metrics({{"step", step}, {"mlm_loss", 10.0 - step}}, "train");
      if (step % 2 == 0) {
        log.metrics({{"step", step}, {"val_loss", 5.0 + step}, {"val_accuracy", 0.5}},
                    "validation");
        log.prediction(prediction(step, 0, step == 2 ? "a dog[2.0%]" : "a cat[9.0%]"));
      }
    }
  }
  RunLog log(folder_.path(), 4, 10, false);
  const RunView& view = log.progress().view();
  EXPECT_EQ(view.losses.means(), std::vector<double>({9.0, 8.0, 7.0, 6.0}));
  ASSERT_TRUE(view.validation);
  EXPECT_EQ(view.validation->step, 4);
  EXPECT_EQ(view.validation->best_step, 2);
  EXPECT_EQ(view.validation->best_loss, 7.0);
  ASSERT_EQ(view.words.size(), 1u);
  ASSERT_EQ(view.words[0].predictions.size(), 2u);
  EXPECT_EQ(view.words[0].word, "cat");
  EXPECT_EQ(view.words[0].predictions[0].word, "dog");
  EXPECT_EQ(view.words[0].predictions[1].word, "cat");
}

TEST_F(RunLogTest, AFullDiskEndsNothingBeforeTheEnd) {
  RunLog log(folder_.path(), 0, 10, true);
  log.metrics({{"step", 1}, {"loss", 1.0}}, "train");
  {
    const FullDisk disk(20);
    log.message("a message longer than the disk has room for");
    log.metrics({{"step", 2}, {"loss", 1.0}}, "train");
    log.event(RunEvent::best, 2, "text");
    log.prediction(prediction(2, 0, "a dog[2.0%]"));
    EXPECT_THROW(log.finish(), RuntimeError);
  }
  log.metrics({{"step", 3}, {"loss", 1.0}}, "train");
  log.message("the last");
  log.finish();
  const std::vector<Json> metrics = lines("metrics.jsonl");
  ASSERT_EQ(metrics.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(metrics[i]["step"], i + 1);
  EXPECT_EQ(lines("predictions.jsonl").size(), 1u);
  EXPECT_EQ(lines("events.jsonl").size(), 1u);
  const std::string text = read_file(folder_ / "log.txt");
  const auto once = [&](const std::string& part) {
    const std::size_t at = text.find(part);
    return at != std::string::npos && text.find(part, at + 1) == std::string::npos;
  };
  EXPECT_TRUE(once("a message longer")) << text;
  EXPECT_TRUE(once("warning: cannot write " + (folder_ / "metrics.jsonl").string())) << text;
  EXPECT_TRUE(once("the last")) << text;
}

}  // namespace
}  // namespace bert
