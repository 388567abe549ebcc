// train: pre-training, on one device or under mpirun.
#include <cstdio>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "kernels/cpu_module.h"
#include "runtime/communicator.h"
#include "runtime/program.h"
#include "train/config/config.h"
#include "train/config/config_keys.h"
#include "train/end_job.h"
#include "train/pretrainer.h"
#include "train/rank_agreement.h"
#include "train/run_arguments.h"

namespace {

using namespace bert;

int train(int argc, char** argv) {
  CommandLine line(
      "Pre-trains a BERT as a configuration says, on one device or, under mpirun, on many.",
      "train");
  RunArguments arguments;
  bool json = false;
  add_run_arguments(line, arguments);
  line.add("--json", json, "With --dry-run: the plan as JSON");
  if (const auto exit_code = parse_run_arguments(line, argc, argv, config_table().names())) {
    return *exit_code;
  }

  const std::unique_ptr<Communicator> communicator = make_communicator();
  return or_end_job(*communicator, [&] {
    require_config(arguments, "train configs/bert_tiny.yaml");
    const Config config = arguments.config.empty()
                              ? parse_config("{}", "the defaults", arguments.overrides)
                              : load_config(arguments.config, arguments.overrides);
    if (arguments.print_config) {
      if (communicator->is_root()) std::fputs(explain_config(config).c_str(), stdout);
      return 0;
    }
    const RunOptions& options = arguments.options;
    if (json && !options.dry_run) {
      throw_input_error("--json goes with --dry-run; a run's numbers are in its metrics.jsonl");
    }
    check_ranks_agree(*communicator, facts_of(config));
    if (options.dump_batches && communicator->size() > 1) {
      throw_input_error("--dump-batches works with one rank only");
    }
    Pretrainer pretrainer(config, options, *communicator);
    if (options.dry_run) {
      const RunPlan plan = pretrainer.plan();
      const std::string text = json ? to_json(plan).dump(2) : describe(plan);
      if (communicator->is_root()) std::printf("%s\n", text.c_str());
      return 0;
    }
    // Within the other, as a failure must end the job before the pretrainer is taken down.
    or_end_job(*communicator, [&] { pretrainer.run(); });
    return 0;
  });
}

}  // namespace

int main(int argc, char** argv) {
  limit_openmp_spinning();
  return run_program([&] { return train(argc, argv); });
}
