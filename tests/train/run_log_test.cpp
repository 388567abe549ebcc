// RunLog: what ends up in which file, after a resume and on a full disk too.
#include "train/logging/run_log.h"

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/json_lines.h"
#include "tests/data/corpus_fixture.h"
#include "tests/train/full_disk.h"

namespace bert {
namespace {

using Json = nlohmann::ordered_json;

class RunLogTest : public testing::Test {
 protected:
  std::vector<Json> lines(const char* name) const {
    std::vector<Json> records;
    for_each_record(folder_ / name,
                    [&](const StepRecord& record) { records.push_back(record.value); });
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
        if (step == 2) log.event(RunEvent::best, step, "");
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

// Better by too little is not best: the events say what is (evaluation.min_improvement).
TEST_F(RunLogTest, TheBestIsWhatTheEventsSay) {
  const auto evaluate = [](RunLog& log, int step, double loss, bool best) {
    log.metrics({{"step", step}, {"val_loss", loss}}, "validation");
    if (best) log.event(RunEvent::best, step, "");
  };
  const auto expect_best = [](RunLog& log, int step, double loss) {
    const auto& validation = log.progress().view().validation;
    ASSERT_TRUE(validation);
    EXPECT_EQ(validation->best_step, step);
    EXPECT_EQ(validation->best_loss, loss);
  };
  {
    RunLog log(folder_.path(), 0, 10, false);
    evaluate(log, 2, 5.0, true);
    evaluate(log, 4, 4.75, true);
    evaluate(log, 6, 4.74, false);
    expect_best(log, 4, 4.75);
    evaluate(log, 8, 4.0, true);
    expect_best(log, 8, 4.0);
  }
  {
    RunLog log(folder_.path(), 6, 10, false);
    log.event(RunEvent::resume, 6, "");
    expect_best(log, 4, 4.75);
    evaluate(log, 8, 4.74, false);  // another 8 than the one that was best
    log.metrics({{"step", 9}, {"loss", 1.0}}, "train");
  }
  RunLog log(folder_.path(), 9, 10, false);
  expect_best(log, 4, 4.75);
}

// After a rollback: files and view as they were at that step, but the same view, and nothing is
// lost that waits for a full disk.
TEST_F(RunLogTest, GoesBack) {
  RunLog log(folder_.path(), 0, 20, true);
  const auto train = [&](int step) {
    log.progress().update({.step = step, .loss = 10.0 - step});
    log.metrics({{"step", step}, {"mlm_loss", 10.0 - step}}, "train");
  };
  for (int step = 1; step <= 3; ++step) train(step);
  log.metrics({{"step", 3}, {"val_loss", 7.0}}, "validation");
  log.event(RunEvent::best, 3, "");
  log.prediction(prediction(3, 0, "a dog[2.0%]"));
  log.gradient_norms(3, {.layers = {{"embeddings", 0.5}}, .parameters = {0.5}});
  const std::string metrics = read_file(folder_ / "metrics.jsonl");
  {
    const FullDisk disk(metrics.size() + 3);
    train(4);
    train(5);
    log.metrics({{"step", 5}, {"val_loss", 6.0}}, "validation");
    log.event(RunEvent::best, 5, "an event that waits");
    log.prediction(prediction(5, 0, "a cat[9.0%]"));
    log.gradient_norms(5, {.layers = {{"embeddings", 0.25}}, .parameters = {0.25}});
    EXPECT_EQ(read_file(folder_ / "metrics.jsonl"), metrics);
    log.go_back(4);  // of which one line still waits
  }
  const RunView& view = log.progress().view();
  EXPECT_EQ(view.losses.means(), std::vector<double>({9.0, 8.0, 7.0}));
  ASSERT_TRUE(view.validation);
  EXPECT_EQ(view.validation->step, 3);
  EXPECT_EQ(view.validation->best_step, 3);
  ASSERT_EQ(view.words.size(), 1u);
  EXPECT_EQ(view.words[0].predictions.size(), 1u);
  EXPECT_EQ(view.progress.step, 4);
  log.event(RunEvent::rollback, 5, "went back");
  train(5);
  // The speed is that of all steps that were done, six of them.
  EXPECT_NEAR(view.progress.eta_seconds.value(), view.progress.elapsed_seconds / 6 * 15, 1e-9);
  log.finish();
  std::vector<Json> steps;
  for (const Json& line : lines("metrics.jsonl")) steps.push_back(line["step"]);
  EXPECT_EQ(steps, (std::vector<Json>{1, 2, 3, 3, 4, 5}));
  EXPECT_EQ(lines("predictions.jsonl").size(), 1u);
  EXPECT_EQ(lines("gradient_norms.jsonl").size(), 1u);
  EXPECT_EQ(lines("events.jsonl").size(), 3u);
  EXPECT_NE(read_file(folder_ / "log.txt").find("an event that waits"), std::string::npos);
  // And once more, without a disk that refuses.
  log.go_back(2);
  EXPECT_EQ(lines("metrics.jsonl").size(), 2u);
  EXPECT_FALSE(log.progress().view().validation);
  EXPECT_TRUE(log.progress().view().words.empty());
  EXPECT_TRUE(lines("predictions.jsonl").empty());
}

// Whatever stands in the files, it is named.
TEST_F(RunLogTest, WhatNoRunWroteIsNamed) {
  const auto expect_named = [&](const char* file, const std::string& line) {
    { RunLog log(folder_.path(), 0, 10, false); }
    write_text(folder_ / file, line + "\n");
    try {
      RunLog log(folder_.path(), 9, 10, false);
      ADD_FAILURE() << line;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find((folder_ / file).string() + ":1"), std::string::npos)
          << error.what();
    }
    std::filesystem::remove(folder_ / file);
  };
  expect_named("predictions.jsonl", R"({"step": 5, "sample": 0, "text": 7})");
  expect_named("predictions.jsonl", R"({"step": 5, "sample": "0"})");
  expect_named("events.jsonl", R"({"step": 5, "kind": 7})");
  expect_named("metrics.jsonl", R"({"step": 18446744073709551615, "mlm_loss": 1.0})");
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
