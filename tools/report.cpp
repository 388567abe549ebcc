// report: one HTML page that shows how one or several runs went.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "runtime/command_line.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/json_lines.h"
#include "runtime/program.h"
#include "tools/report_page.h"
#include "tools/report_script.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// A curve has at most so many points; a point then stands for a stretch of steps.
constexpr std::size_t kMostPoints = 1200;
// Of sections in a config.yaml; an anchor within itself has no end.
constexpr int kMostDepth = 16;
// Of so many evaluations, evenly chosen, the page has the predictions and the norms of layers.
constexpr std::size_t kMostEvaluations = 200;

struct Curve {
  std::vector<std::int64_t> steps;
  std::vector<double> values;  // NaN where a value was not finite
};

struct Run {
  std::string name;
  std::map<std::string, Curve> curves;
  Json samples = Json::array();  // each with its predictions from evaluation to evaluation
  Json gradient_norms = Json::object();
  Json events = Json::array();
  Json config = Json::object();
  std::string environment;
};

// Keys as they are given on a command line: "train.batch_size".
void flatten(const YAML::Node& node, const std::string& key, Json& config, int depth = 0) {
  if (depth > kMostDepth) throw_input_error("{}: nested more than {} levels deep", key, kMostDepth);
  if (node.IsMap()) {
    for (const auto& entry : node) {
      const std::string name = entry.first.as<std::string>();
      flatten(entry.second, key.empty() ? name : key + "." + name, config, depth + 1);
    }
  } else if (node.IsScalar()) {
    config[key] = node.Scalar();
  } else {
    YAML::Emitter text;
    text << YAML::Flow << node;
    config[key] = text.c_str();
  }
}

// Which of n evaluations are kept: the first and the last always.
std::vector<std::size_t> chosen(std::size_t n) {
  std::vector<std::size_t> indices;
  const std::size_t count = std::min(n, kMostEvaluations);
  for (std::size_t i = 0; i < count; ++i) {
    indices.push_back(count == 1 ? 0 : i * (n - 1) / (count - 1));
  }
  return indices;
}

// Predictions come by evaluation; here they are by sample. A sample is known by its text: what was
// followed may have changed with the configuration.
Json read_samples(const fs::path& path) {
  std::vector<Json> samples;
  for_each_record(path, [&](const StepRecord& record) {
    const Json& line = record.value;
    const std::string text = line.value("text", ""), masked = line.value("masked", "");
    auto sample = std::find_if(samples.begin(), samples.end(), [&](const Json& known) {
      return known["text"] == text && known["masked"] == masked &&
             known["step"].back() != line["step"];
    });
    if (sample == samples.end()) {
      samples.push_back({{"text", text},
                         {"masked", masked},
                         {"step", Json::array()},
                         {"predicted", Json::array()}});
      sample = std::prev(samples.end());
    }
    (*sample)["step"].push_back(line["step"]);
    (*sample)["predicted"].push_back(line.value("predicted", ""));
  });
  for (Json& sample : samples) {
    Json steps = Json::array(), predicted = Json::array();
    for (const std::size_t i : chosen(sample["step"].size())) {
      steps.push_back(sample["step"][i]);
      predicted.push_back(sample["predicted"][i]);
    }
    sample["step"] = steps;
    sample["predicted"] = predicted;
  }
  return samples;
}

// {"step": [...], "layers": [...], "norms": one list a layer, null where a norm is not finite}.
Json gradient_norms(const std::vector<Json>& lines) {
  Json steps = Json::array(), layers = Json::array(), norms = Json::array();
  if (!lines.empty()) {
    for (const auto& [key, value] : lines.back().items()) {
      if (key != "step") layers.push_back(key);
    }
  }
  const std::vector<std::size_t> kept = chosen(lines.size());
  for (const std::size_t i : kept) steps.push_back(lines[i]["step"]);
  for (const Json& layer : layers) {
    Json row = Json::array();
    for (const std::size_t i : kept) {
      row.push_back(lines[i].value(layer.get<std::string>(), Json()));
    }
    norms.push_back(row);
  }
  return {{"step", steps}, {"layers", layers}, {"norms", norms}};
}

// What comes before the first report of a step.
std::string banner_of(const std::string& log) {
  std::size_t end = log.size();
  for (const char* next : {"\nstep ", "\nwarning: ", "\nnothing to do"}) {
    end = std::min(end, log.find(next));
  }
  return log.substr(0, end);
}

std::vector<Json> read_lines_if_any(const fs::path& path) {
  std::vector<Json> lines;
  if (fs::exists(path)) {
    for_each_record(path, [&](const StepRecord& record) { lines.push_back(record.value); });
  }
  return lines;
}

Run read_run(const fs::path& folder) {
  Run run;
  run.name = fs::weakly_canonical(folder).filename().string();
  if (!fs::exists(folder / "metrics.jsonl")) {
    throw_input_error("{}: no run directory of train or finetune: it has no metrics.jsonl",
                      folder.string());
  }
  for_each_record(folder / "metrics.jsonl", [&](const StepRecord& record) {
    for (const auto& [key, value] : record.value.items()) {
      if (key == "step" || !(value.is_number() || value.is_null())) continue;
      Curve& curve = run.curves[key];
      curve.steps.push_back(record.step);
      curve.values.push_back(value.is_null() ? std::nan("") : value.get<double>());
    }
  });
  if (fs::exists(folder / "predictions.jsonl")) {
    run.samples = read_samples(folder / "predictions.jsonl");
  }
  run.gradient_norms = gradient_norms(read_lines_if_any(folder / "gradient_norms.jsonl"));
  run.events = read_lines_if_any(folder / "events.jsonl");
  if (fs::exists(folder / "config.yaml")) {
    try {
      flatten(YAML::LoadFile((folder / "config.yaml").string()), "", run.config);
    } catch (const YAML::Exception& error) {
      throw_input_error("{}: {}", (folder / "config.yaml").string(), error.what());
    }
  }
  if (fs::exists(folder / "log.txt")) {
    run.environment = banner_of(read_file(folder / "log.txt"));
  }
  return run;
}

// Mean, least and greatest of each stretch; the mean alone where every point is kept.
Json thinned(const Curve& curve) {
  const std::size_t n = curve.steps.size(), stretch = (n + kMostPoints - 1) / kMostPoints;
  Json steps = Json::array(), means = Json::array(), lows = Json::array(), highs = Json::array();
  for (std::size_t begin = 0; begin < n; begin += stretch) {
    const std::size_t end = std::min(n, begin + stretch);
    double sum = 0, low = HUGE_VAL, high = -HUGE_VAL;
    int count = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const double value = curve.values[i];
      if (!std::isfinite(value)) continue;
      sum += value;
      low = std::min(low, value);
      high = std::max(high, value);
      ++count;
    }
    steps.push_back(curve.steps[end - 1]);
    means.push_back(count > 0 ? Json(sum / count) : Json());
    lows.push_back(count > 0 ? Json(low) : Json());
    highs.push_back(count > 0 ? Json(high) : Json());
  }
  Json series = {{"step", steps}, {"mean", means}};
  if (stretch > 1) {
    series["low"] = lows;
    series["high"] = highs;
  }
  return series;
}

// Without the values that are not finite, as after a step that was refused.
Curve finite(const Curve& curve) {
  Curve kept;
  for (std::size_t i = 0; i < curve.values.size(); ++i) {
    if (!std::isfinite(curve.values[i])) continue;
    kept.steps.push_back(curve.steps[i]);
    kept.values.push_back(curve.values[i]);
  }
  return kept;
}

// Single steps are noisy: the mean of the last twentieth.
double recent_mean(const std::vector<double>& values) {
  const std::size_t count = std::max<std::size_t>(1, values.size() / 20);
  return std::accumulate(values.end() - static_cast<std::ptrdiff_t>(count), values.end(), 0.0) /
         static_cast<double>(count);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// At `step`; NaN where there is none.
double value_at(const Curve& curve, std::int64_t step) {
  const auto found = std::find(curve.steps.begin(), curve.steps.end(), step);
  if (found == curve.steps.end()) return std::nan("");
  return curve.values[static_cast<std::size_t>(found - curve.steps.begin())];
}

bool is_finetuning(const Run& run) { return run.config.contains("task"); }

// What the task is judged by, at the evaluation that was the best by its metric: the last that an
// event says to be the best.
void add_task_metrics(const Run& run, Json& row) {
  row["best at step"] = "";
  std::int64_t best = 0;
  for (const Json& event : run.events) {
    if (event.value("kind", "") == "best") best = event["step"];
  }
  if (best == 0) return;
  row["best at step"] = fmt::format("{}", best);
  for (const char* name : {"loss", "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman",
                           "exact_match", "precision", "recall"}) {
    const auto found = run.curves.find(std::string("val_") + name);
    if (found == run.curves.end()) continue;
    const double value = value_at(found->second, best);
    if (std::isfinite(value)) row[std::string("validation ") + name] = fmt::format("{:.4f}", value);
  }
}

Json summary(const Run& run) {
  Json row = Json::object();
  const auto curve = [&](const char* key) {
    const auto found = run.curves.find(key);
    return found == run.curves.end() ? Curve{} : finite(found->second);
  };
  const auto number = [](double value, const char* format) {
    return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : std::string();
  };
  std::int64_t last = 0;
  for (const auto& [key, c] : run.curves) last = std::max(last, c.steps.back());
  row["steps"] = fmt::format("{}", last);
  const Curve loss = curve("loss"), valid = curve("val_loss"), speed = curve("tokens_per_second");
  row["training loss, last 5 %"] =
      loss.values.empty() ? "" : fmt::format("{:.4f}", recent_mean(loss.values));
  if (is_finetuning(run)) {
    add_task_metrics(run, row);
  } else {
    for (const char* key : {"best validation loss", "at step", "perplexity", "accuracy"}) {
      row[key] = "";
    }
    if (!valid.values.empty()) {
      const auto best = std::min_element(valid.values.begin(), valid.values.end());
      const std::int64_t step = valid.steps[static_cast<std::size_t>(best - valid.values.begin())];
      row["best validation loss"] = fmt::format("{:.4f}", *best);
      row["at step"] = fmt::format("{}", step);
      row["perplexity"] = number(value_at(curve("val_perplexity"), step), "{:.2f}");
      row["accuracy"] = number(100 * value_at(curve("val_accuracy"), step), "{:.1f} %");
    }
  }
  row["tokens/s, median"] = speed.values.empty() ? "" : fmt::format("{:.0f}", median(speed.values));
  return row;
}

std::string page(const std::vector<Run>& runs) {
  const std::time_t now = std::time(nullptr);
  char made[64];
  std::strftime(made, sizeof made, "Made on %Y-%m-%d at %H:%M.", std::localtime(&now));
  Json data = {{"made", made}, {"runs", Json::array()}};
  for (const Run& run : runs) {
    Json series = Json::object();
    for (const auto& [key, curve] : run.curves) series[key] = thinned(curve);
    data["runs"].push_back({{"name", run.name},
                            {"summary", summary(run)},
                            {"series", series},
                            {"samples", run.samples},
                            {"gradient_norms", run.gradient_norms},
                            {"events", run.events},
                            {"config", run.config},
                            {"environment", run.environment}});
  }
  std::string json = bert::one_line(data);
  // Text of a corpus may hold "</script>".
  for (std::size_t at = 0; (at = json.find("</", at)) != std::string::npos; at += 3) {
    json.replace(at, 2, "<\\/");
  }
  std::string text(kReportPage);
  // The data last: nothing is looked for in it.
  for (const auto& [place, content] :
       {std::pair<std::string_view, std::string_view>{"/*REPORT_SCRIPT*/", kReportScript},
        {"/*REPORT_DATA*/", json}}) {
    const std::size_t at = text.find(place);
    BERT_CHECK(at != std::string::npos);
    text.replace(at, place.size(), content);
  }
  return text;
}

// The folders of the seeds of a run of `finetune` that has several; otherwise `folder` itself.
std::vector<fs::path> run_directories(const fs::path& folder) {
  std::vector<fs::path> seeds;
  if (fs::is_directory(folder) && !fs::exists(folder / "metrics.jsonl")) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      const bool is_seed = entry.path().filename().string().starts_with("seed_");
      if (is_seed && fs::exists(entry.path() / "metrics.jsonl")) seeds.push_back(entry.path());
    }
  }
  std::sort(seeds.begin(), seeds.end());
  return seeds.empty() ? std::vector{folder} : seeds;
}

int run_report(int argc, char** argv) {
  CommandLine line(
      "Makes one HTML page of one or several runs side by side: curves, configuration,\n"
      "environment, example predictions, events. The page needs no network.",
      "report");
  std::vector<std::string> folders;
  std::string output;
  line.add("run_dir", folders, "run directories of train or finetune").required();
  line.add("--output", output,
           "the page; - is standard output (default: report.html in the first directory)");
  if (const auto done = line.parse(argc, argv)) return *done;
  std::vector<Run> runs;
  for (const std::string& given : folders) {
    for (const fs::path& folder : run_directories(given)) {
      runs.push_back(read_run(folder));
      // Several runs of the same name are told apart by their paths.
      for (std::size_t i = 0; i + 1 < runs.size(); ++i) {
        if (runs[i].name == runs.back().name) runs.back().name = folder.string();
      }
      if (runs.back().curves.empty()) {
        throw_input_error("{}: nothing has been logged yet", folder.string());
      }
    }
  }
  if (output == "-") {
    std::cout << page(runs);
    return 0;
  }
  const fs::path path =
      output.empty() ? fs::path(folders.front()) / "report.html" : fs::path(output);
  write_file_atomic(path, page(runs));
  fmt::print("wrote {}\n", path.string());
  return 0;
}

}  // namespace
}  // namespace bert

int main(int argc, char** argv) {
  return bert::run_program([&] { return bert::run_report(argc, argv); });
}
