// train: pre-training, on one device or under mpirun.
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cpu_module.h"
#include "runtime/command_line.h"
#include "runtime/communicator.h"
#include "train/config.h"
#include "train/end_job.h"
#include "train/pretrainer.h"
#include "train/rank_agreement.h"

namespace {

using namespace bert;

int train(int argc, char** argv) {
  CLI::App app(
      "Pre-trains a BERT as a configuration says, on one device or, under mpirun, on many.",
      "train");
  std::string config_path;
  std::vector<std::string> overrides;
  PretrainerOptions options;
  bool print_config = false;
  app.add_option("config", config_path, "The configuration, a YAML file");
  app.add_option("overrides", overrides, "key.path=value, over what the file says");
  app.add_option("--resume", options.resume,
                 "auto: go on from the run directory's newest valid checkpoint, or start afresh; "
                 "DIR: from exactly that checkpoint");
  app.add_flag("--dry-run", options.dry_run, "Check everything, print the plan, change nothing");
  app.add_flag("--json", options.json, "With --dry-run: the plan as JSON");
  app.add_flag("--print-config", print_config,
               "Print every key with its value, meaning and default; without a configuration, the "
               "defaults");
  app.add_option("--dump-batches", options.dump_batches,
                 "Append each micro-batch to this file as a JSON line, and save the fresh weights "
                 "as step 0: for comparing another implementation on the same data");
  if (const auto exit_code = parse_command_line(app, argc, argv)) return *exit_code;

  const std::unique_ptr<Communicator> communicator = make_communicator();
  return or_end_job(*communicator, [&] {
    if (!print_config && (config_path.empty() || is_override(config_path))) {
      throw_input_error("config: which configuration? For example train configs/bert_tiny.yaml {}",
                        config_path);
    }
    // An override can stand where the configuration would, when there is none.
    const bool defaults = config_path.empty() || (print_config && is_override(config_path));
    if (defaults && !config_path.empty()) overrides.insert(overrides.begin(), config_path);
    const Config config = defaults ? parse_config("{}", "the defaults", overrides)
                                   : load_config(config_path, overrides);
    if (print_config) {
      if (communicator->is_root()) std::fputs(explain_config(config).c_str(), stdout);
      return 0;
    }
    if (options.json && !options.dry_run) {
      throw_input_error("--json goes with --dry-run; a run's numbers are in its metrics.jsonl");
    }
    check_ranks_agree(*communicator, facts_of(config));
    if (options.dump_batches && communicator->size() > 1) {
      throw_input_error("--dump-batches works with one rank only");
    }
    Pretrainer pretrainer(config, options, *communicator);
    or_end_job(*communicator, [&] { pretrainer.run(); });
    return 0;
  });
}

}  // namespace

int main(int argc, char** argv) {
  limit_openmp_spinning();
  return run_program([&] { return train(argc, argv); });
}
