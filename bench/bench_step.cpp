// A whole training step on a CPU or a GPU, or with --inference only its forward: tokens/s, model
// FLOP utilisation, where the time goes, and how much of it the products of the linear layers alone
// would take. Those are run again after the steps, by themselves, on the same memory; 100 % would
// be a step that does nothing else.
//
// On a GPU the step is recorded once and repeated, as `train` does; its ops are then timed one by
// one, each waited for, less what waiting takes.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/bench_support.h"
#include "bench/model_step.h"
#include "bench/product_ops.h"
#include "kernels/cpu_module.h"
#include "runtime/command_line.h"
#include "runtime/program.h"
#include "train/config/config.h"

namespace bert::bench {
namespace {

struct Arguments {
  BackendChoice backend{.threads = static_cast<int>(std::thread::hardware_concurrency())};
  std::vector<std::string> configs;
  std::vector<std::int64_t> lengths;
  std::optional<std::int64_t> vocab_size, tokens;
  std::optional<double> peak_tflops;
  int steps = 5;
  bool natural = false;  // lengths
  bool inference = false;
  bool json = false;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// By datasheet, of an H100 or H200, without sparsity.
double default_peak_tflops(const Backend& backend) {
  if (backend.is_cpu()) return 0.0;  // not known
  static const std::map<std::string, double> peaks = {
      {"fp8", 1979.0}, {"bf16", 989.0}, {"tf32", 494.7}, {"fp32", 67.0}};
  return peaks.at(backend.precision);
}

// What waiting for a call that does next to nothing takes.
double seconds_of_waiting(Ops& ops, Device& device) {
  Memory memory(device);
  const Tensor little = memory.zeros(DType::f32, {4});
  return fastest_seconds(device, 50, 1, [&] { ops.zero(little); });
}

// The most memory this process has had, of the system's and its libraries' as well. Unlike
// getrusage's, it says nothing of the process that started this one.
double peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kilobytes = 0.0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024.0;
  }
  throw_runtime_error("/proc/self/status: no line VmHWM");
}

using Times = std::map<std::string, std::vector<double>>;
void add_times(Times& times, const ProductOps& ops, double waiting) {
  for (const auto& [name, time] : ops.times()) {
    const double seconds = time.seconds - waiting * static_cast<double>(time.calls);
    times[name].push_back(std::max(seconds, 0.0));
  }
}

nlohmann::ordered_json measure(const std::string& path, std::int64_t asked_length,
                               const Arguments& arguments) {
  const Config config = load_config(path);
  const std::int64_t configured = config.model.bert.vocab_size;
  const BertConfig model =
      resolve_model(config, arguments.vocab_size.value_or(configured > 0 ? configured : 30522));
  const std::int64_t length = asked_length > 0 ? asked_length : config.train.sequence_length;
  Backend backend = open_backend(arguments.backend);
  const bool cpu = backend.is_cpu();
  const std::int64_t tokens = arguments.tokens.value_or(cpu ? 1024 : 32768);
  const Lengths lengths =
      arguments.natural
          ? natural_lengths(tokens, length)
          : Lengths(static_cast<std::size_t>(std::max<std::int64_t>(1, tokens / length)), length);
  const auto real = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  const auto masked =
      static_cast<std::int64_t>(config.objective.mask_fraction * static_cast<double>(real));
  Device& device = *backend.device;
  const std::string ops_name = backend.ops->name();
  ProductOps ops(std::move(backend.ops), device);
  const auto heads = config.objective.next_sentence ? BertForPretraining::Heads::mlm_and_nsp
                                                    : BertForPretraining::Heads::mlm;
  const StepKind kind = arguments.inference ? StepKind::inference : StepKind::training;
  ModelStep step(kind, model, heads, ops, device, lengths, std::max<std::int64_t>(1, masked));
  step.run();  // scratch is allocated, pages are touched, products are chosen

  std::vector<double> step_seconds, product_seconds;
  Times op_seconds;
  if (cpu) {
    for (int i = 0; i < arguments.steps; ++i) {
      ops.watch_anew();
      step_seconds.push_back(seconds_of(device, [&] { step.run(); }));
      add_times(op_seconds, ops, 0.0);
      product_seconds.push_back(seconds_of(device, [&] { ops.run_products(); }));
    }
  } else {
    const auto recorded = [&] { device.run_recorded(0, [&] { step.run(); }); };
    recorded();
    for (int i = 0; i < arguments.steps; ++i) step_seconds.push_back(seconds_of(device, recorded));
    const double waiting = seconds_of_waiting(ops, device);
    for (int i = 0; i < arguments.steps; ++i) {
      ops.watch_anew();
      step.run();
      add_times(op_seconds, ops, waiting);
    }
  }
  ops.look_away();
  if (!cpu) {
    for (int i = 0; i < arguments.steps; ++i) {
      product_seconds.push_back(seconds_of(device, [&] { ops.run_products(); }));
    }
  }
  const double whole = median(step_seconds), products = median(product_seconds);
  const double peak = arguments.peak_tflops ? *arguments.peak_tflops : default_peak_tflops(backend);
  nlohmann::ordered_json result;
  result["config"] = path;
  result["device"] = device.name();
  result["ops"] = ops_name;
  result["precision"] = backend.precision;
  result["parameters"] = step.num_parameters();
  result["sequences"] = lengths.size();
  result["sequence_length"] = length;
  result["natural_lengths"] = arguments.natural;
  result["tokens"] = step.num_tokens();
  result["work"] = arguments.inference ? "inference" : "training";
  result["hidden_dropout"] = arguments.inference ? 0.0 : model.hidden_dropout_prob;
  result["attention_dropout"] = arguments.inference ? 0.0 : model.attention_probs_dropout_prob;
  if (cpu) result["threads"] = arguments.backend.threads;
  if (!arguments.inference) result["loss"] = step.loss();
  result["step_ms"] = whole * 1e3;
  result["tokens_per_second"] = static_cast<double>(step.num_tokens()) / whole;
  result["necessary_tflop_per_second"] = step.necessary_flop() / whole / 1e12;
  if (peak > 0.0) {
    result["peak_tflop_per_second"] = peak;
    result["mfu"] = step.necessary_flop() / whole / 1e12 / peak;
  }
  result["activation_bytes"] = step.activation_bytes();
  result["parameter_bytes"] = step.parameter_bytes();
  if (cpu) result["peak_resident_bytes"] = peak_resident_bytes();
  result["products_ms"] = products * 1e3;
  result["products_gflop_per_second"] = ops.product_flop() / products / 1e9;
  result["products_fraction"] = products / whole;
  for (const auto& [name, times] : op_seconds) result["op_ms"][name] = median(times) * 1e3;
  return result;
}

void print(const nlohmann::ordered_json& r) {
  fmt::print(
      "{}, {}: {} parameters, {} sequences of {}{}, {} tokens, dropout {} and {}, {}, {}{}\n",
      r["config"].get<std::string>(), r["work"].get<std::string>(),
      r["parameters"].get<std::int64_t>(), r["sequences"].get<std::int64_t>(),
      r["natural_lengths"].get<bool>() ? "up to " : "", r["sequence_length"].get<std::int64_t>(),
      r["tokens"].get<std::int64_t>(), r["hidden_dropout"].get<double>(),
      r["attention_dropout"].get<double>(), r["device"].get<std::string>(),
      r["precision"].get<std::string>(),
      r.contains("threads") ? fmt::format(", {} threads", r["threads"].get<int>()) : "");
  const double step = r["step_ms"], products = r["products_ms"];
  fmt::print("  step      {:9.1f} ms   {:.0f} tokens/s\n", step,
             r["tokens_per_second"].get<double>());
  fmt::print("  necessary {:9.2f} TFLOP/s", r["necessary_tflop_per_second"].get<double>());
  if (r.contains("mfu")) {
    fmt::print("   {:.1f} % of {:.0f}", 100.0 * r["mfu"].get<double>(),
               r["peak_tflop_per_second"].get<double>());
  }
  fmt::print(
      "\n  memory    {:9.1f} MB of activations ({:.0f} KB a token), {:.1f} MB of parameters\n",
      r["activation_bytes"].get<double>() / 1e6,
      r["activation_bytes"].get<double>() / r["tokens"].get<double>() / 1e3,
      r["parameter_bytes"].get<double>() / 1e6);
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
  CommandLine line("Times a whole step, of training or of inference, beside its products alone.",
                   "bench_step");
  line.add("config", arguments.configs,
           "configurations to run (default: tiny and base on a CPU, base and large on a GPU)");
  line.add("--device", arguments.backend.device, "cpu or cuda").one_of({"cpu", "cuda"});
  line.add("--precision", arguments.backend.precision, "auto, fp32, tf32, bf16 or fp8")
      .one_of({"auto", "fp32", "tf32", "bf16", "fp8"});
  line.add("--vocab-size", arguments.vocab_size,
           "entries of the vocabulary (default: the configuration's, or 30522)")
      .range(2, 10000000);
  line.add("--tokens", arguments.tokens,
           "tokens of a step (default: 1024 on a CPU, 32768 on a GPU)")
      .range(1, 1 << 20);
  line.add("--length", arguments.lengths,
           "tokens of a sequence, one or several, ended by -- before a config (default: the "
           "configuration's on a CPU, 128 and 512 on a GPU)")
      .range(1, 1 << 20);
  line.add("--natural", arguments.natural,
           "sequences of different lengths up to --length, as many tokens as without: half of a "
           "padded batch would be padding");
  line.add("--inference", arguments.inference,
           "forward alone, without dropout and gradients: logits of the masked tokens");
  line.add("--peak-tflops", arguments.peak_tflops,
           "what MFU is a part of (default on a GPU: 1979 in fp8, 989 in bf16, 494.7 in tf32, 67 "
           "in fp32)")
      .range(1e-3, 1e6);
  line.add("--threads", arguments.backend.threads, "threads of a CPU to use").range(1, 1024);
  line.add("--steps", arguments.steps, "steps to time, after one that is not counted")
      .range(1, 1000);
  line.add("--json", arguments.json, "one JSON object a line");
  if (const auto done = line.parse(argc, argv)) return *done;
  const bool cpu = arguments.backend.device == "cpu";
  if (arguments.configs.empty()) {
    arguments.configs = {cpu ? "configs/bert_tiny.yaml" : "configs/bert_base.yaml",
                         cpu ? "configs/bert_base.yaml" : "configs/bert_large.yaml"};
  }
  if (arguments.lengths.empty()) {
    arguments.lengths = cpu ? std::vector<std::int64_t>{0} : std::vector<std::int64_t>{128, 512};
  }
  for (const std::string& path : arguments.configs) {
    for (const std::int64_t length : arguments.lengths) {
      const nlohmann::ordered_json result = measure(path, length, arguments);
      if (arguments.json) {
        fmt::print("{}\n", result.dump());
      } else {
        print(result);
      }
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace bert::bench

int main(int argc, char** argv) {
  bert::limit_openmp_spinning();
  return bert::run_program([&] { return bert::bench::main_program(argc, argv); });
}
