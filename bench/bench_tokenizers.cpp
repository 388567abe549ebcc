// bench_tokenizers: how fast text becomes tokens, with offsets, on one thread or several. Text is
// read into memory first; a round encodes every line, in batches whose tokens are all kept until
// the batch is done, as a batch call of another library would. bench/compare_tokenizers.py runs it
// in turns with Hugging Face's.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/text/text_reader.h"
#include "data/tokenization/tokenizer.h"
#include "data/tokenization/word_splitter.h"
#include "runtime/command_line.h"
#include "runtime/error.h"
#include "runtime/program.h"

namespace {

using bert::Token;
using Json = nlohmann::ordered_json;

struct Arguments {
  std::string tokenizer, mode = "huggingface";
  std::vector<std::string> input;
  std::size_t max_bytes = 0, batch = 1000;
  int threads = 1, rounds = 3;
  bool cased = false, json = false;
};

struct Round {
  double seconds = 0, cpu_seconds = 0;
  std::uint64_t tokens = 0, id_sum = 0;
};

double process_cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

std::vector<std::string> read_lines(const Arguments& arguments, std::uint64_t& bytes) {
  bert::TextReader reader(arguments.input);
  std::vector<std::string> all;
  for (std::string_view line;
       (arguments.max_bytes == 0 || bytes < arguments.max_bytes) && reader.next_line(line);) {
    bytes += line.size();
    all.emplace_back(line);
  }
  return all;
}

Round run_round(const bert::Tokenizer& tokenizer, const std::vector<std::string>& lines,
                const Arguments& arguments) {
  const auto threads = static_cast<std::size_t>(arguments.threads);
  std::vector<Round> parts(threads);
  std::atomic<std::size_t> next{0};
  const auto work = [&](Round& sum) {
    Round own;  // on this thread's stack: neighbours in `parts` share cache lines
    std::vector<Token> tokens;
    while (true) {
      const std::size_t begin = next.fetch_add(arguments.batch);
      if (begin >= lines.size()) break;
      tokens.clear();
      for (std::size_t i = begin; i < std::min(begin + arguments.batch, lines.size()); ++i) {
        tokenizer.encode(lines[i], tokens);
      }
      own.tokens += tokens.size();
      for (const Token& token : tokens) own.id_sum += static_cast<std::uint64_t>(token.id);
    }
    sum = own;
  };
  const double cpu_begin = process_cpu_seconds();
  const auto begin = std::chrono::steady_clock::now();
  if (threads == 1) {
    work(parts[0]);
  } else {
    std::vector<std::jthread> workers;
    for (Round& part : parts) workers.emplace_back([&work, &part] { work(part); });
  }
  Round round;
  round.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  round.cpu_seconds = process_cpu_seconds() - cpu_begin;
  for (const Round& part : parts) {
    round.tokens += part.tokens;
    round.id_sum += part.id_sum;
  }
  return round;
}

int run(const Arguments& arguments) {
  bert::TokenizerOptions options;
  options.cased = arguments.cased;
  options.mode = bert::parse_compat_mode(arguments.mode);
  const auto tokenizer = bert::load_tokenizer(arguments.tokenizer, options);
  std::uint64_t bytes = 0;
  const std::vector<std::string> lines = read_lines(arguments, bytes);
  Json report;
  report["lines"] = lines.size();
  report["bytes"] = bytes;
  report["threads"] = arguments.threads;
  for (int i = 0; i < arguments.rounds; ++i) {
    const Round round = run_round(*tokenizer, lines, arguments);
    report["tokens"] = round.tokens;
    report["id_sum"] = round.id_sum;
    report["seconds"].push_back(round.seconds);
    report["cpu_seconds"].push_back(round.cpu_seconds);
  }
  if (arguments.json) {
    std::cout << report.dump() << '\n';
    return 0;
  }
  auto seconds = report["seconds"].get<std::vector<double>>();
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  fmt::print(
      "{} lines, {:.1f} MB, {} tokens; {} thread(s), {} rounds: median {:.3f} s, "
      "{:.1f} MB/s, {:.2f} million tokens/s\n",
      lines.size(), static_cast<double>(bytes) / 1e6, report["tokens"].get<std::uint64_t>(),
      arguments.threads, arguments.rounds, median, static_cast<double>(bytes) / 1e6 / median,
      static_cast<double>(report["tokens"].get<std::uint64_t>()) / 1e6 / median);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bert::run_program([&] {
    bert::CommandLine line(
        "Times the encoding of text that lies in memory; prints the median of some rounds.",
        "bench_tokenizers");
    Arguments arguments;
    line.add("--tokenizer", arguments.tokenizer,
             "a tokenizer folder, a vocab.txt or a SentencePiece .model")
        .required();
    line.add("--input", arguments.input, "UTF-8 text, plain or compressed (.gz, .bz2, .xz, .zst)")
        .required();
    line.add("--max-bytes", arguments.max_bytes, "use about so much of the text; 0: all");
    line.add("--batch", arguments.batch, "lines whose tokens are kept together").range(1, 1 << 24);
    line.add("--threads", arguments.threads, "threads that encode").range(1, 1024);
    line.add("--rounds", arguments.rounds, "times that all of the text is encoded").range(1, 1000);
    line.add("--cased", arguments.cased, "a bare vocab.txt is cased");
    line.add("--mode", arguments.mode, "whose rules a bare vocab.txt follows")
        .one_of({"huggingface", "google"});
    line.add("--json", arguments.json, "print every round as JSON");
    if (const auto done = line.parse(argc, argv)) return *done;
    return run(arguments);
  });
}
