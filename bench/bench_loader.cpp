// bench_loader: how fast samples are made, masks included, and how long a corpus takes to open.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/samples/data_loader.h"
#include "runtime/command_line.h"
#include "runtime/program.h"

namespace bert::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Arguments {
  std::string data;
  std::vector<std::int64_t> lengths = {128, 512};
  std::vector<int> threads = {1, 2};
  std::int64_t batch_size = 256;
  double seconds = 3.0;
  bool next_sentence = false, json = false;
};

struct Result {
  std::int64_t length = 0;
  int threads = 0;
  double start_seconds = 0;  // from nothing to the first step's batches
  double tokens_per_second = 0;
  double filled = 0;  // tokens of a sample over the most it could have
};

Result measure(const Arguments& arguments, std::int64_t length, int threads) {
  const auto begin = Clock::now();
  const auto corpus = std::make_shared<const Corpus>(arguments.data);
  DatasetOptions options;
  options.sequence_length = length;
  options.next_sentence = arguments.next_sentence;
  auto dataset = std::make_shared<const PretrainingDataset>(corpus, Split::train, options);
  LoaderOptions loader_options;
  loader_options.batch_size = arguments.batch_size;
  loader_options.threads = threads;
  loader_options.prefetch_steps = 2 * threads;
  DataLoader loader(std::move(dataset), loader_options);
  (void)loader.next();

  Result result{.length = length, .threads = threads, .start_seconds = seconds_since(begin)};
  // What was made ahead is not counted; the blocks' checksums, verified at first touch, are.
  for (int i = 0; i < loader_options.prefetch_steps; ++i) (void)loader.next();
  std::int64_t tokens = 0, sequences = 0;
  const auto timed = Clock::now();
  while (seconds_since(timed) < arguments.seconds) {
    const auto step = loader.next();
    tokens += step->tokens;
    sequences += step->sequences;
  }
  result.tokens_per_second = static_cast<double>(tokens) / seconds_since(timed);
  result.filled = static_cast<double>(tokens) / static_cast<double>(sequences * length);
  return result;
}

int run(int argc, char** argv) {
  CommandLine line("Measures how fast training samples are made from a prepared corpus.",
                   "bench_loader");
  Arguments arguments;
  line.add("--data", arguments.data, "folder written by prepare_corpus").required();
  line.add("--length", arguments.lengths, "tokens of a sequence, one or several");
  line.add("--threads", arguments.threads, "threads that make samples, one or several")
      .range(1, 1024);
  line.add("--batch-size", arguments.batch_size, "sequences of a step").range(1, 1 << 20);
  line.add("--seconds", arguments.seconds, "how long to measure each").range(1e-3, 86400.0);
  line.add("--next-sentence", arguments.next_sentence, "pairs for next sentence prediction");
  line.add("--json", arguments.json, "one JSON object a line");
  if (const auto done = line.parse(argc, argv)) return *done;

  if (!arguments.json) {
    fmt::print("{:>7} {:>8} {:>12} {:>16} {:>8}\n", "length", "threads", "start, ms", "M tokens/s",
               "filled");
  }
  for (const std::int64_t length : arguments.lengths) {
    for (const int threads : arguments.threads) {
      const Result result = measure(arguments, length, threads);
      if (arguments.json) {
        const nlohmann::ordered_json answer = {{"length", result.length},
                                               {"threads", result.threads},
                                               {"start_seconds", result.start_seconds},
                                               {"tokens_per_second", result.tokens_per_second},
                                               {"filled", result.filled}};
        fmt::print("{}\n", answer.dump());
      } else {
        fmt::print("{:>7} {:>8} {:>12.1f} {:>16.2f} {:>7.1f}%\n", result.length, result.threads,
                   result.start_seconds * 1e3, result.tokens_per_second * 1e-6,
                   result.filled * 1e2);
      }
      std::fflush(stdout);
    }
  }
  return 0;
}

}  // namespace
}  // namespace bert::bench

int main(int argc, char** argv) {
  return bert::run_program([&] { return bert::bench::run(argc, argv); });
}
