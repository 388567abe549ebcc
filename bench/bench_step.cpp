// A whole training step on the CPU: tokens/s, where the time goes, and how much of it the products
// of the linear layers alone would take. Those are run again right after each step, by themselves,
// on the same memory; 100 % would be a step that does nothing else.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/timed_ops.h"
#include "bench/training_step.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/openmp_wait.h"
#include "runtime/program.h"
#include "train/config.h"

namespace bert::bench {
namespace {

struct Arguments {
  std::vector<std::string> configs = {"configs/bert_tiny.yaml", "configs/bert_base.yaml"};
  std::int64_t vocab_size = 30522, tokens = 1024, length = 0;
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  int steps = 5;
  bool json = false;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <typename Work>
double seconds(Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

nlohmann::ordered_json measure(const std::string& path, const Arguments& arguments) {
  const Config config = load_config(path);
  const BertConfig model = resolve_model(config, arguments.vocab_size);
  const std::int64_t length =
      arguments.length > 0 ? arguments.length : config.train.sequence_length;
  const std::int64_t sequences = std::max<std::int64_t>(1, arguments.tokens / length);
  const auto masked = static_cast<std::int64_t>(config.objective.mask_fraction *
                                                static_cast<double>(sequences * length));
  const std::unique_ptr<Device> device = make_cpu_device();
  TimedOps ops(make_cpu_ops(arguments.threads));
  const auto heads = config.objective.next_sentence ? BertForPretraining::Heads::mlm_and_nsp
                                                    : BertForPretraining::Heads::mlm;
  TrainingStep step(model, heads, ops, *device, sequences, length,
                    std::max<std::int64_t>(1, masked));
  step.run();  // scratch is allocated, pages are touched

  std::vector<double> step_seconds, product_seconds;
  std::map<std::string, std::vector<double>> op_seconds;
  double flop = 0.0;
  for (int i = 0; i < arguments.steps; ++i) {
    ops.reset();
    step_seconds.push_back(seconds([&] { step.run(); }));
    for (const auto& [name, time] : ops.times()) op_seconds[name].push_back(time.seconds);
    product_seconds.push_back(seconds([&] { run_products(ops.products(), arguments.threads); }));
    flop = 0.0;
    for (const Product& product : ops.products()) flop += product.flop();
  }
  const double whole = median(step_seconds), products = median(product_seconds);
  nlohmann::ordered_json result;
  result["config"] = path;
  result["parameters"] = step.num_parameters();
  result["sequences"] = sequences;
  result["sequence_length"] = length;
  result["hidden_dropout"] = model.hidden_dropout_prob;
  result["attention_dropout"] = model.attention_probs_dropout_prob;
  result["threads"] = arguments.threads;
  result["blas_core"] = cpu::Blas::instance().core();
  result["loss"] = step.loss();
  result["step_ms"] = whole * 1e3;
  result["tokens_per_second"] = static_cast<double>(step.num_tokens()) / whole;
  result["products_ms"] = products * 1e3;
  result["products_gflop_per_second"] = flop / products / 1e9;
  result["products_fraction"] = products / whole;
  for (const auto& [name, times] : op_seconds) result["op_ms"][name] = median(times) * 1e3;
  return result;
}

void print(const nlohmann::ordered_json& r) {
  fmt::print("{}: {} parameters, {} sequences of {}, dropout {} and {}, {} threads, {} kernels\n",
             r["config"].get<std::string>(), r["parameters"].get<std::int64_t>(),
             r["sequences"].get<std::int64_t>(), r["sequence_length"].get<std::int64_t>(),
             r["hidden_dropout"].get<double>(), r["attention_dropout"].get<double>(),
             r["threads"].get<int>(), r["blas_core"].get<std::string>());
  const double step = r["step_ms"], products = r["products_ms"];
  fmt::print("  step      {:9.1f} ms   {:.0f} tokens/s\n", step,
             r["tokens_per_second"].get<double>());
  fmt::print("  products  {:9.1f} ms   {:.1f} % of the step, at {:.0f} GFLOP/s\n", products,
             100.0 * r["products_fraction"].get<double>(),
             r["products_gflop_per_second"].get<double>());
  std::vector<std::pair<double, std::string>> ops;
  for (const auto& [name, ms] : r["op_ms"].items()) ops.emplace_back(ms.get<double>(), name);
  std::sort(ops.rbegin(), ops.rend());
  for (const auto& [ms, name] : ops) {
    fmt::print("    {:9.2f} ms {:5.1f} %  {}\n", ms, 100.0 * ms / step, name);
  }
}

int main_program(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Times a whole training step on the CPU beside its products alone.");
  app.set_version_flag("--version", version_string());
  app.add_option("config", arguments.configs, "configurations to run (default: tiny and base)");
  app.add_option("--vocab-size", arguments.vocab_size, "entries of the vocabulary")
      ->check(CLI::Range(2, 10000000))
      ->capture_default_str();
  app.add_option("--tokens", arguments.tokens, "tokens of a step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--length", arguments.length,
                 "tokens of a sequence (default: the configuration's)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--threads", arguments.threads, "threads to use")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps, "steps to time, after one that is not counted")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "one JSON object a line");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    throw_input_error("{}; try --help", error.what());
  }
  for (const std::string& path : arguments.configs) {
    const nlohmann::ordered_json result = measure(path, arguments);
    if (arguments.json) {
      fmt::print("{}\n", result.dump());
    } else {
      print(result);
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace bert::bench

int main(int argc, char** argv) {
  bert::cpu::limit_openmp_spinning(argv);
  return bert::run_program([&] { return bert::bench::main_program(argc, argv); });
}
