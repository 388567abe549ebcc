// finetune: trains a pre-trained model for a task, on one device or under mpirun.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "kernels/cpu_module.h"
#include "runtime/communicator.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/program.h"
#include "train/checkpoint/run_directory.h"
#include "train/config/finetune_config.h"
#include "train/config/finetune_config_keys.h"
#include "train/end_job.h"
#include "train/finetuner.h"
#include "train/rank_agreement.h"
#include "train/run_arguments.h"

namespace {

using namespace bert;
namespace fs = std::filesystem;
using nlohmann::ordered_json;

ordered_json to_json(const std::vector<Metric>& metrics) {
  ordered_json json = ordered_json::object();
  for (const Metric& metric : metrics) json[metric.name] = number_or_null(metric.value);
  return json;
}

// Over the seeds: each metric's mean and, with two or more, its standard deviation (n - 1).
ordered_json summary(const std::vector<FinetuneResult>& results,
                     std::vector<Metric> FinetuneResult::*split) {
  ordered_json json = ordered_json::object();
  for (const Metric& metric : results.front().*split) {
    std::vector<double> values;
    for (const FinetuneResult& result : results) {
      for (const Metric& other : result.*split) {
        if (other.name == metric.name) values.push_back(other.value);
      }
    }
    const auto n = static_cast<double>(values.size());
    double mean = 0.0, squares = 0.0;
    for (const double value : values) mean += value / n;
    for (const double value : values) squares += (value - mean) * (value - mean);
    json[metric.name]["mean"] = number_or_null(mean);
    if (values.size() > 1) {
      json[metric.name]["deviation"] = number_or_null(std::sqrt(squares / (n - 1)));
    }
  }
  return json;
}

void print(const char* name, const ordered_json& metrics, const std::vector<std::string>& shown) {
  std::string line = fmt::format("{:<12}", name);
  for (const auto& [metric, value] : metrics.items()) {
    if (std::find(shown.begin(), shown.end(), metric) == shown.end()) continue;
    const auto text = [&](const char* key) {
      const ordered_json& one = value.at(key);
      return one.is_null() ? std::string("nan") : fmt::format("{:.4f}", one.get<double>());
    };
    line += fmt::format("{} {}", metric, text("mean"));
    if (value.contains("deviation")) line += fmt::format(" +- {}", text("deviation"));
    line += "  ";
  }
  while (line.ends_with(' ')) line.pop_back();
  std::printf("%s\n", line.c_str());
}

void report(const FinetuneConfig& config, const std::vector<FinetuneResult>& results) {
  ordered_json json{{"metric", results.front().metric}, {"seeds", ordered_json::array()}};
  for (const FinetuneResult& result : results) {
    ordered_json one{{"seed", result.seed},
                     {"best_step", result.step},
                     {"validation", to_json(result.validation)}};
    if (!result.test.empty()) one["test"] = to_json(result.test);
    json["seeds"].push_back(one);
  }
  json["validation"] = summary(results, &FinetuneResult::validation);
  if (!results.front().test.empty()) json["test"] = summary(results, &FinetuneResult::test);
  write_file_atomic(fs::path(config.run_dir) / "results.json", json.dump(2) + "\n");
  const std::vector<std::string> shown = results.front().shown;
  print("validation", json["validation"], shown);
  if (json.contains("test")) print("test", json["test"], shown);
}

// InputError where the run directory is that of several seeds and now there is one, or the other
// way round: nothing of it would be found.
void check_same_layout(const FinetuneConfig& config) {
  const fs::path folder = config.run_dir;
  const bool several = config.seeds.size() > 1;
  std::error_code error;  // where there is none yet, or it cannot be read, which others tell
  const fs::directory_iterator entries(folder, error);
  const bool of_the_other = std::any_of(begin(entries), end(entries), [&](const auto& entry) {
    const std::string name = entry.path().filename().string();
    return several ? name == "checkpoints" : name.starts_with("seed_");
  });
  if (!of_the_other) return;
  throw_input_error(
      "run_dir: {} is of {}, and `seeds` now names {}: go on with the same, or name another folder",
      folder.string(), several ? "one seed" : "several seeds", several ? "several" : "one");
}

int finetune(int argc, char** argv) {
  CommandLine line(
      "Fine-tunes a pre-trained BERT for classification, regression, token classification or "
      "question answering as a configuration says, on one device or, under mpirun, on many. The "
      "best checkpoint by the validation metric is RUN_DIR/checkpoints/best.",
      "finetune");
  RunArguments arguments;
  add_run_arguments(line, arguments);
  if (const auto exit_code =
          parse_run_arguments(line, argc, argv, finetune_config_table().names())) {
    return *exit_code;
  }

  const std::unique_ptr<Communicator> communicator = make_communicator();
  return or_end_job(*communicator, [&] {
    require_config(arguments, "finetune configs/finetune/sst2.yaml");
    const Missing missing = arguments.print_config ? Missing::allow : Missing::refuse;
    const FinetuneConfig config =
        arguments.config.empty()
            ? parse_finetune_config("{}", "the defaults", arguments.overrides, missing)
            : load_finetune_config(arguments.config, arguments.overrides, missing);
    if (arguments.print_config) {
      if (communicator->is_root()) std::fputs(explain_finetune_config(config).c_str(), stdout);
      return 0;
    }
    const RunOptions& options = arguments.options;
    check_ranks_agree(*communicator, facts_of(config));
    if (options.dump_batches && (communicator->size() > 1 || config.seeds.size() > 1)) {
      throw_input_error("--dump-batches works with one rank and one seed only");
    }
    if (options.resume && *options.resume != "auto" && config.seeds.size() > 1) {
      throw_input_error(
          "--resume {}: a checkpoint is of one seed, and the configuration has {}; --resume auto "
          "goes on with all of them",
          *options.resume, config.seeds.size());
    }
    // Those of several seeds lie in folders of their own in it.
    const fs::path parent = config.run_dir;
    if (communicator->is_root() && config.seeds.size() > 1 && !options.resume) {
      refuse_used_directory(parent);
    }
    if (communicator->is_root() && options.resume == "auto") check_same_layout(config);
    const StopSignals signals;
    std::vector<FinetuneResult> results;
    for (const std::uint64_t seed : config.seeds) {
      const fs::path run_dir =
          config.seeds.size() == 1 ? parent : parent / fmt::format("seed_{}", seed);
      Finetuner finetuner(config, seed, run_dir, options, signals, *communicator);
      if (options.dry_run) {
        if (communicator->is_root()) std::printf("%s\n", finetuner.plan().c_str());
        continue;
      }
      // Within the other, as a failure must end the job before the finetuner is taken down.
      results.push_back(or_end_job(*communicator, [&] { return finetuner.run(); }));
      if (!results.back().finished) return 0;
      if (results.size() == config.seeds.size()) break;
      // One that came when it was too late to stop this seed.
      if (const int signal = signals.received_by_any(*communicator); signal != 0) {
        if (communicator->is_root()) {
          std::fprintf(stderr, "stopped by %s; --resume auto goes on with the other seeds\n",
                       signal_name(signal));
        }
        return 0;
      }
    }
    if (communicator->is_root() && !options.dry_run) report(config, results);
    return 0;
  });
}

}  // namespace

int main(int argc, char** argv) {
  limit_openmp_spinning();
  return run_program([&] { return finetune(argc, argv); });
}
