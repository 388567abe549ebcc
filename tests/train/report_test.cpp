// report: what the page holds is what the run logged.
#include <cmath>

#include <nlohmann/json.hpp>

#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {
namespace {

using Json = nlohmann::json;

class ReportTest : public testing::Test {
 protected:
  void write_run(const std::string& name, const std::string& metrics) const {
    std::filesystem::create_directories(folder_ / name);
    write_text(folder_ / name / "metrics.jsonl", metrics);
  }
  Answer report(const std::string& arguments) const {
    return run("cd " + folder_.path().string() + " && " + BERT_REPORT + " " + arguments);
  }
  // What the page's script reads.
  static Json data_of(const std::filesystem::path& page) {
    const std::string text = read_file(page), open = "id=\"data\">";
    const std::size_t begin = text.find(open) + open.size();
    return Json::parse(text.substr(begin, text.find("</script>", begin) - begin));
  }

  TemporaryFolder folder_;
};

TEST_F(ReportTest, ShowsEveryStretchOfALongRun) {
  std::string metrics;
  for (int step = 1; step <= 3000; ++step) {
    metrics += fmt::format("{{\"step\": {}, \"loss\": {}, \"tokens_per_second\": {}.0}}\n", step,
                           step == 5 ? "null" : fmt::format("{}.5", 4000 - step), step % 7);
    if (step % 1000 == 0) {
      metrics += fmt::format(
          "{{\"step\": {}, \"val_loss\": {}, \"val_perplexity\": 9.5, \"val_accuracy\": 0.25}}\n",
          step, 5 - std::abs(step - 2000) / -1000.0);
    }
  }
  write_run("a", metrics + "{\"step\": 3001, \"lo");  // still being written
  write_text(folder_ / "a" / "config.yaml", "seed: 3\ntrain:\n  phases: [{from: 0.5}]\n");
  write_text(folder_ / "a" / "log.txt", "model  x\nrun  y\nstep 10: validation\n");
  const std::string line =
      "{\"step\": 1000, \"text\": \"</script>\", \"masked\": \"m\", \"predicted\": \"p\"}\n";
  write_text(folder_ / "a" / "predictions.jsonl", line + line);

  const Answer answer = report("a");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json run = data_of(folder_ / "a" / "report.html").at("runs").at(0);
  EXPECT_EQ(run.at("name"), "a");
  const Json& loss = run.at("series").at("loss");
  ASSERT_EQ(loss.at("step").size(), 1000u);  // three steps each
  EXPECT_EQ(loss.at("step").back(), 3000);
  EXPECT_EQ(loss.at("mean")[0], 3998.5);
  EXPECT_EQ(loss.at("mean")[1], (3996.5 + 3994.5) / 2);  // without the one that is no number
  EXPECT_EQ(loss.at("low")[999], 1000.5);
  EXPECT_EQ(loss.at("high")[999], 1002.5);
  const Json& validation = run.at("series").at("val_loss");
  EXPECT_EQ(validation.at("mean"), Json({6.0, 5.0, 6.0}));
  EXPECT_FALSE(validation.contains("low"));
  EXPECT_EQ(run.at("summary").at("at step"), "2000");
  EXPECT_EQ(run.at("summary").at("best validation loss"), "5.0000");
  EXPECT_EQ(run.at("summary").at("accuracy"), "25.0 %");
  EXPECT_EQ(run.at("summary").at("steps"), "3000");
  EXPECT_EQ(run.at("samples").size(), 2u);
  EXPECT_EQ(run.at("samples")[1].at("text"), "</script>");
  EXPECT_EQ(run.at("config").at("seed"), "3");
  EXPECT_EQ(run.at("config").at("train.phases"), "[{from: 0.5}]");
  EXPECT_EQ(run.at("environment"), "model  x\nrun  y");
  // Nothing is fetched from anywhere.
  const std::string page = read_file(folder_ / "a" / "report.html");
  for (const char* outside : {"src=", "href=", "url(", "fetch(", "import "}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
}

// What was logged by evaluation is shown by sample; long stories are thinned, ends kept.
TEST_F(ReportTest, FollowsSamplesNormsAndEvents) {
  std::string metrics, predictions, norms, events;
  for (int step = 1; step <= 300; ++step) {
    metrics +=
        fmt::format("{{\"step\": {0}, \"val_loss\": {0}.5, \"val_loss_se\": 0.125}}\n", step);
    for (const char* text : {"one", "two", "two"}) {
      predictions += fmt::format(
          "{{\"step\": {}, \"text\": \"{}\", \"masked\": \"m\", \"predicted\": \"{}\"}}\n", step,
          text, step);
    }
    norms += fmt::format("{{\"step\": {}, \"embeddings\": {}.5, \"layer_00\": {}}}\n", step, step,
                         step == 1 ? "null" : "0.25");
  }
  events =
      "{\"step\": 9, \"kind\": \"skip\", \"time\": \"t\", \"text\": \"x\"}\n"
      "{\"step\": 3, \"kind\": \"resume\", \"time\": \"u\", \"text\": \"\"}\n";
  write_run("a", metrics);
  write_text(folder_ / "a" / "predictions.jsonl", predictions);
  write_text(folder_ / "a" / "gradient_norms.jsonl", norms);
  write_text(folder_ / "a" / "events.jsonl", events);
  write_text(folder_ / "a" / "log.txt",
             "model  x\nwarning: step 9: skipped\nstep 10: validation\n");
  const Answer answer = report("a");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json run = data_of(folder_ / "a" / "report.html").at("runs").at(0);
  ASSERT_EQ(run.at("samples").size(), 3u);
  for (const Json& sample : run["samples"]) {
    ASSERT_EQ(sample.at("step").size(), 200u);
    EXPECT_EQ(sample["step"].front(), 1);
    EXPECT_EQ(sample["step"].back(), 300);
    EXPECT_EQ(sample.at("predicted").front(), "1");
    EXPECT_EQ(sample["predicted"].back(), "300");
  }
  EXPECT_EQ(run["samples"][0].at("text"), "one");
  EXPECT_EQ(run["samples"][2].at("text"), "two");
  const Json& heat = run.at("gradient_norms");
  EXPECT_EQ(heat.at("layers"), Json({"embeddings", "layer_00"}));
  ASSERT_EQ(heat.at("step").size(), 200u);
  ASSERT_EQ(heat.at("norms").at(1).size(), 200u);
  EXPECT_EQ(heat["norms"][0].back(), 300.5);
  EXPECT_TRUE(heat["norms"][1].front().is_null());
  EXPECT_EQ(heat["norms"][1].back(), 0.25);
  ASSERT_EQ(run.at("events").size(), 2u);
  EXPECT_EQ(run["events"][0].at("kind"), "skip");
  EXPECT_EQ(run["series"].at("val_loss_se").at("mean").at(0), 0.125);
  EXPECT_EQ(run.at("environment"), "model  x");
}

// What is not finite, as after a step that was refused, is in no figure of the summary.
TEST_F(ReportTest, SummarisesWhatIsFinite) {
  write_run("a", R"({"step": 1, "loss": 3.0, "tokens_per_second": null}
{"step": 2, "loss": 2.0, "tokens_per_second": 20.0}
{"step": 2, "val_loss": null, "val_perplexity": null, "val_accuracy": 0.5}
{"step": 3, "loss": null, "tokens_per_second": 30.0}
{"step": 3, "val_loss": 4.0, "val_accuracy": 0.25}
{"step": 4, "val_loss": 5.0, "val_accuracy": 0.75}
)");
  write_run("nothing",
            "{\"step\": 1, \"loss\": null, \"val_loss\": null, \"tokens_per_second\": null}\n");
  const Answer answer = report("a nothing --output both.html");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(report("a nothing --output - > piped.html").output, "");
  EXPECT_EQ(data_of(folder_ / "piped.html"), data_of(folder_ / "both.html"));
  const Json runs = data_of(folder_ / "both.html").at("runs");
  const Json& a = runs.at(0).at("summary");
  EXPECT_EQ(a.at("training loss, last 5 %"), "2.0000");
  EXPECT_EQ(a.at("best validation loss"), "4.0000");
  EXPECT_EQ(a.at("at step"), "3");
  EXPECT_EQ(a.at("perplexity"), "");
  EXPECT_EQ(a.at("accuracy"), "25.0 %");
  EXPECT_EQ(a.at("tokens/s, median"), "30");
  for (const auto& [key, value] : runs.at(1).at("summary").items()) {
    EXPECT_EQ(value, key == "steps" ? "1" : "") << key;
  }
}

// A run of an older version, or one that has only begun.
TEST_F(ReportTest, NeedsMetricsOnly) {
  write_run("a", "{\"step\": 1, \"loss\": 2.0}\n");
  ASSERT_EQ(report("a").exit_code, 0);
  const Json run = data_of(folder_ / "a" / "report.html").at("runs").at(0);
  EXPECT_TRUE(run.at("samples").empty());
  EXPECT_TRUE(run.at("events").empty());
  EXPECT_TRUE(run.at("gradient_norms").at("step").empty());
}

TEST_F(ReportTest, PutsRunsSideBySide) {
  write_run("a", "{\"step\": 1, \"loss\": 2.0}\n");
  write_run("other/a", "{\"step\": 1, \"loss\": 3.0}\n");
  const Answer answer = report("a other/a --output both.html");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json runs = data_of(folder_ / "both.html").at("runs");
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].at("name"), "a");
  EXPECT_EQ(runs[1].at("name"), "other/a");
  EXPECT_EQ(runs[1].at("series").at("loss").at("mean"), Json({3.0}));
}

// Of a task: what it is judged by, where an event says that it was the best.
TEST_F(ReportTest, ShowsTheMetricsOfTasks) {
  for (const char* name : {"task/seed_1", "task/seed_0"}) {
    write_run(name, R"({"step": 1, "val_loss": 1.0, "val_accuracy": 0.5, "val_f1": 0.25}
{"step": 2, "val_loss": 2.0, "val_accuracy": 0.75, "val_f1": 0.625}
)");
    write_text(folder_ / name / "config.yaml", "task: classification\n");
    write_text(folder_ / name / "events.jsonl",
               "{\"step\": 1, \"kind\": \"best\"}\n{\"step\": 2, \"kind\": \"best\"}\n");
  }
  const Answer answer = report("task");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json runs = data_of(folder_ / "task" / "report.html").at("runs");
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].at("name"), "seed_0");
  EXPECT_EQ(runs[1].at("name"), "seed_1");
  const Json& summary = runs[0].at("summary");
  EXPECT_EQ(summary.at("best at step"), "2");
  EXPECT_EQ(summary.at("validation loss"), "2.0000");
  EXPECT_EQ(summary.at("validation f1"), "0.6250");
  EXPECT_FALSE(summary.contains("best validation loss"));
}

TEST_F(ReportTest, BadInput) {
  expect_refused(report("nothing"), "nothing: no run directory");
  write_run("empty", "");
  expect_refused(report("empty"), "nothing has been logged");
  write_run("broken", "{\"step\": 1, \"loss\": 2.0}\nloss 3\n");
  expect_refused(report("broken"), "metrics.jsonl:2");
  // Neither recursion without end nor one that fills the stack.
  const std::string line = "{\"step\": 1, \"loss\": 2.0}\n";
  write_run("endless", line);
  write_text(folder_ / "endless" / "config.yaml", "train: &a {again: *a}\n");
  expect_refused(report("endless"), "levels deep");
  write_run("deep", line + "{\"step\": 2, \"a\": " + std::string(100000, '[') + "\n");
  expect_refused(report("deep"), "metrics.jsonl:2");
  write_run("large", line + "{\"step\": 18446744073709551615, \"loss\": 2.0}\n");
  expect_refused(report("large"), "metrics.jsonl:2");
  write_run("text", line);
  write_text(folder_ / "text" / "predictions.jsonl", "{\"step\": 5, \"text\": 7}\n");
  expect_refused(report("text"), "predictions.jsonl:1");
}

}  // namespace
}  // namespace bert
