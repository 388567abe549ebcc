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
  EXPECT_EQ(run.at("predictions").at(0).at("samples").size(), 2u);
  EXPECT_EQ(run.at("predictions")[0]["samples"][1].at("text"), "</script>");
  EXPECT_EQ(run.at("config").at("seed"), "3");
  EXPECT_EQ(run.at("config").at("train.phases"), "[{from: 0.5}]");
  EXPECT_EQ(run.at("environment"), "model  x\nrun  y");
  // Nothing is fetched from anywhere.
  const std::string page = read_file(folder_ / "a" / "report.html");
  for (const char* outside : {"src=", "href=", "url(", "fetch(", "import "}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << outside;
  }
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
}

}  // namespace
}  // namespace bert
