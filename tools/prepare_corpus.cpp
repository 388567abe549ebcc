// prepare_corpus: raw text to memory-mapped token shards with a validation split.
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "data/corpus_preparation.h"
#include "data/tokenizer.h"
#include "runtime/command_line.h"
#include "tools/byte_progress.h"

namespace {

using bert::CorpusCounts;
using bert::PreparationReport;

// Set by Ctrl-C: work then ends like any error, so that no unfinished folder is left behind.
volatile std::sig_atomic_t interrupted = 0;

void stop_when_interrupted() {
  if (interrupted != 0) bert::throw_runtime_error("interrupted; nothing was written");
}

// Above this share of unknown words something is wrong: another language, case or script.
constexpr double kUnknownWarning = 0.01;

double ratio(std::uint64_t a, std::uint64_t b) {
  return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
}

nlohmann::json to_json(const CorpusCounts& counts) {
  return {{"documents", counts.documents},
          {"sentences", counts.sentences},
          {"words", counts.words},
          {"tokens", counts.tokens},
          {"unknown", counts.unknown},
          {"tokens_per_word", ratio(counts.tokens, counts.words)},
          {"unknown_rate", ratio(counts.unknown, counts.words)}};
}

void print_json(const PreparationReport& report, const std::string& output) {
  nlohmann::json answer = to_json(report.counts);
  answer["output"] = output;
  answer["train"] = to_json(report.manifest.parts[0]);
  answer["validation"] = to_json(report.manifest.parts[1]);
  answer["invalid_utf8"] = report.text.invalid_utf8;
  answer["unknown_words"] = nlohmann::json::array();
  for (const auto& [word, count] : report.unknown_words) {
    answer["unknown_words"].push_back({{"word", word}, {"count", count}});
  }
  std::puts(answer.dump().c_str());
}

void print_counts(const char* name, const CorpusCounts& counts) {
  fmt::print("{:<12} {:>11} {:>11} {:>13} {:>13}\n", name, counts.documents, counts.sentences,
             counts.words, counts.tokens);
}

void print_report(const PreparationReport& report, const std::string& output) {
  fmt::print("{:<12} {:>11} {:>11} {:>13} {:>13}\n", "", "documents", "sentences", "words",
             "tokens");
  print_counts("train", report.manifest.parts[0]);
  print_counts("validation", report.manifest.parts[1]);
  print_counts("all", report.counts);
  fmt::print("{:.3f} tokens per word, {:.3f} % of the words are unknown\n",
             ratio(report.counts.tokens, report.counts.words),
             100 * ratio(report.counts.unknown, report.counts.words));
  fmt::print("wrote {}\n", output);
}

void print_warnings(const PreparationReport& report) {
  std::fflush(stdout);
  if (report.text.invalid_utf8 > 0) {
    fmt::print(stderr, "warning: {} parts of invalid UTF-8 were replaced by U+FFFD, first at {}\n",
               report.text.invalid_utf8, report.text.first_invalid_utf8);
  }
  if (report.text.cut_lines > 0) {
    fmt::print(stderr, "warning: {} lines are longer than 1 MiB and were cut\n",
               report.text.cut_lines);
  }
  if (report.text.cut_documents > 0) {
    fmt::print(stderr,
               "warning: {} documents are longer than 64 MiB and were cut; are documents "
               "separated by blank lines?\n",
               report.text.cut_documents);
  }
  const double unknown = ratio(report.counts.unknown, report.counts.words);
  if (unknown < kUnknownWarning) return;
  fmt::print(stderr,
             "WARNING: {:.1f} % of the words are not in the vocabulary and became [UNK]; nothing "
             "is learned of them. Is it the right tokenizer for this text, cased or uncased?\n"
             "WARNING: commonest unknown words:",
             100 * unknown);
  for (const auto& [word, count] : report.unknown_words) {
    fmt::print(stderr, " {} ({})", word, count);
  }
  fmt::print(stderr, "\n");
}

int run(int argc, char** argv) {
  CLI::App app(
      "Turns raw text into a corpus that train reads: memory-mapped token shards with checksums,\n"
      "split into training and validation by document. Text is UTF-8, plain or .gz, .bz2, .xz,\n"
      ".zst; a line is a sentence or paragraph, a blank line ends a document.",
      "prepare_corpus");
  bert::PreparationOptions options;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::string tokenizer_path, output, invalid_utf8 = "replace";
  bool cased = false, json = false;
  app.add_option("--tokenizer", tokenizer_path,
                 "Tokenizer folder, vocab.txt or SentencePiece .model")
      ->required();
  app.add_option("--input", options.files, "Text files; - is standard input")->required();
  app.add_option("--output", output,
                 "Folder to write; an older corpus there is replaced, anything else is refused")
      ->required();
  app.add_option("--validation-fraction", options.writer.validation_fraction,
                 "Share of the documents that goes to validation, in [0, 1)")
      ->capture_default_str();
  app.add_option("--seed", options.writer.seed, "Seed of the split")->capture_default_str();
  app.add_option("--sequence-length", options.writer.sequence_lengths,
                 "Sequence lengths to store cut tables for; others still work, but are computed "
                 "when training starts")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads that tokenize; the result is the same")
      ->capture_default_str();
  app.add_flag("--cased", cased, "A bare vocab.txt is cased");
  app.add_option("--invalid-utf8", invalid_utf8, "replace (by U+FFFD) or refuse")
      ->check(CLI::IsMember({"replace", "refuse"}))
      ->capture_default_str();
  app.add_flag("--json", json, "Print the report as JSON");
  if (const auto done = bert::parse_command_line(app, argc, argv)) return *done;

  options.output = output;
  options.refuse_invalid_utf8 = invalid_utf8 == "refuse";
  bert::TokenizerOptions tokenizer_options;
  tokenizer_options.cased = cased;
  const auto tokenizer = bert::load_tokenizer(tokenizer_path, tokenizer_options);
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { interrupted = 1; });
  bert::ByteProgress progress;
  options.progress = [&](std::uint64_t read, std::uint64_t total, std::uint64_t tokens) {
    stop_when_interrupted();
    progress.update(read, total,
                    fmt::format("{:.1f} M tokens", static_cast<double>(tokens) * 1e-6));
  };
  const PreparationReport report = bert::prepare_corpus(*tokenizer, options);
  progress.finish();
  if (json) {
    print_json(report, output);
  } else {
    print_report(report, output);
  }
  print_warnings(report);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bert::run_program([&] { return run(argc, argv); });
}
