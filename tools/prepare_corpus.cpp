// prepare_corpus: raw text to memory-mapped token shards with a validation split.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "data/shards/corpus_preparation.h"
#include "data/tokenization/tokenizer.h"
#include "runtime/command_line.h"
#include "runtime/json.h"
#include "runtime/plural.h"
#include "runtime/program.h"
#include "tools/byte_progress.h"
#include "tools/text_arguments.h"

namespace {

using bert::CorpusCounts;
using bert::plural;
using bert::PreparationProgress;
using bert::PreparationReport;

// Set by Ctrl-C: work then ends like any error, with what is finished kept.
volatile std::sig_atomic_t interrupted = 0;

void stop_when_interrupted() {
  if (interrupted != 0) bert::throw_runtime_error("interrupted; no corpus was written");
}

// Above this share of unknown words something may be wrong: another language, case or script.
constexpr double kUnknownWarning = 0.01;

double ratio(std::uint64_t a, std::uint64_t b) {
  return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
}

struct Costs {
  double seconds = 0;
  std::uint64_t peak_bytes = 0;  // the most memory that was resident
};

std::uint64_t peak_memory() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

nlohmann::json to_json(const CorpusCounts& counts) {
  nlohmann::json answer = {{"tokens_per_word", ratio(counts.tokens, counts.words)},
                           {"unknown_rate", ratio(counts.unknown, counts.words)}};
  CorpusCounts::for_each([&](const char* name, auto count) { answer[name] = counts.*count; });
  return answer;
}

// [[shortest, longest, how many], ...]
nlohmann::json to_json(const bert::LengthHistogram& histogram) {
  nlohmann::json rows = nlohmann::json::array();
  for (std::size_t k = 0; k < histogram.counts.size(); ++k) {
    rows.push_back({std::uint64_t{1} << k, (std::uint64_t{2} << k) - 1, histogram.counts[k]});
  }
  return rows;
}

void print_json(const PreparationReport& report, const Costs& costs, const std::string& output) {
  nlohmann::json answer = to_json(report.counts);
  answer["output"] = output;
  answer["train"] = to_json(report.manifest.splits[0]);
  answer["validation"] = to_json(report.manifest.splits[1]);
  answer["sources"] = nlohmann::json::array();
  for (const bert::CorpusSource& source : report.manifest.sources) {
    nlohmann::json counts = to_json(source.counts);
    counts["name"] = source.name;
    answer["sources"].push_back(counts);
  }
  answer["tokenizer"] = report.manifest.tokenizer_fingerprint;
  answer["document_lengths"] = to_json(report.manifest.document_lengths);
  answer["sentence_lengths"] = to_json(report.manifest.sentence_lengths);
  bert::CorpusDropped::for_each(
      [&](const char* name, auto count) { answer[name] = report.manifest.dropped.*count; });
  answer["invalid_utf8"] = report.text.invalid_utf8;
  answer["malformed_records"] = report.text.malformed;
  answer["cut_lines"] = report.text.cut_lines;
  answer["cut_documents"] = report.text.cut_documents;
  answer["unknown_words"] = nlohmann::json::array();
  for (const auto& [word, count] : report.unknown_words) {
    answer["unknown_words"].push_back({{"word", word}, {"count", count}});
  }
  answer["files"] = report.text.files;
  answer["left_out_files"] = report.left_out_files;
  answer["input_bytes"] = report.input_bytes;
  answer["text_bytes"] = report.text.bytes;
  answer["parts"] = report.parts;
  answer["parts_resumed"] = report.parts_resumed;
  answer["seconds"] = costs.seconds;
  answer["peak_memory_bytes"] = costs.peak_bytes;
  std::puts(bert::one_line(answer).c_str());
}

void print_counts(const char* name, const CorpusCounts& counts) {
  fmt::print("{:<12} {:>11} {:>11} {:>13} {:>13}\n", name, counts.documents, counts.sentences,
             counts.words, counts.tokens);
}

void print_lengths(const char* name, const bert::LengthHistogram& histogram) {
  std::uint64_t all = 0;
  for (const std::uint64_t count : histogram.counts) all += count;
  fmt::print("{}", name);
  for (std::size_t k = 0; k < histogram.counts.size(); ++k) {
    if (histogram.counts[k] == 0) continue;
    fmt::print("  {}-{}: {:.1f} %", std::uint64_t{1} << k, (std::uint64_t{2} << k) - 1,
               100 * ratio(histogram.counts[k], all));
  }
  fmt::print("\n");
}

void print_report(const PreparationReport& report, const Costs& costs, const std::string& output) {
  fmt::print("{:<12} {:>11} {:>11} {:>13} {:>13}\n", "", "documents", "sentences", "words",
             "tokens");
  print_counts("train", report.manifest.splits[0]);
  print_counts("validation", report.manifest.splits[1]);
  print_counts("all", report.counts);
  fmt::print("{:.3f} tokens per word, {:.3f} % of the words are unknown",
             ratio(report.counts.tokens, report.counts.words),
             100 * ratio(report.counts.unknown, report.counts.words));
  for (std::size_t i = 0; i < report.unknown_words.size(); ++i) {
    fmt::print("{} {} ({})", i == 0 ? ":" : ",", report.unknown_words[i].first,
               report.unknown_words[i].second);
  }
  fmt::print("\n");
  print_lengths("tokens of a document:", report.manifest.document_lengths);
  print_lengths("tokens of a sentence:", report.manifest.sentence_lengths);
  const bert::CorpusDropped& dropped = report.manifest.dropped;
  fmt::print(
      "left out: {}, {}, {}, {}\n", plural(dropped.duplicate_documents, "duplicate document"),
      plural(dropped.duplicate_lines, "duplicate line"),
      plural(dropped.short_documents, "short document"), plural(dropped.short_lines, "short line"));
  const double megabytes = static_cast<double>(report.text.bytes) * 1e-6;
  fmt::print("{}, {:.1f} MB of text in {}, {:.1f} MB/s; at most {:.0f} MB of memory\n",
             plural(report.text.files, "file"), megabytes,
             bert::ByteProgress::duration(costs.seconds), megabytes / costs.seconds,
             static_cast<double>(costs.peak_bytes) * 1e-6);
  fmt::print("wrote {}\n", output);
}

void print_warnings(const PreparationReport& report) {
  std::fflush(stdout);
  if (report.left_out_files > 0) {
    fmt::print(stderr, "warning: left out {} in folders, not named like text or empty, first {}\n",
               plural(report.left_out_files, "file"), report.first_left_out_file);
  }
  for (const std::string& warning : report.warnings) {
    fmt::print(stderr, "WARNING: {}\n", warning);
  }
  if (report.text.malformed > 0) {
    fmt::print(stderr, "warning: left out {}, first at {}\n",
               plural(report.text.malformed, "malformed record"), report.text.first_malformed);
  }
  if (report.text.invalid_utf8 > 0) {
    fmt::print(stderr, "warning: replaced {} by U+FFFD, first at {}\n",
               plural(report.text.invalid_utf8, "invalid UTF-8 sequence"),
               report.text.first_invalid_utf8);
  }
  if (report.text.cut_lines > 0) {
    fmt::print(stderr, "warning: cut {} of more than 1 MiB\n",
               plural(report.text.cut_lines, "line"));
  }
  if (report.text.cut_documents > 0) {
    fmt::print(stderr,
               "warning: cut {} of more than 64 MiB; are documents separated by blank lines?\n",
               plural(report.text.cut_documents, "document"));
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

// What the progress line says beside the bytes.
std::string progress_note(const PreparationProgress& progress, double seconds) {
  return fmt::format("{:.0f} documents/s, {:.1f} M tokens",
                     static_cast<double>(progress.documents) / std::max(seconds, 1e-3),
                     static_cast<double>(progress.tokens) * 1e-6);
}

class ProgressDisplay {
 public:
  void update(const PreparationProgress& progress) {
    if (progress.phase == PreparationProgress::Phase::tokenizing) {
      bytes_.update(progress.done, progress.total, progress_note(progress, bytes_.seconds()),
                    progress.resumed);
    } else {
      static constexpr const char* kNames[] = {"tokenizing", "looking for duplicates",
                                               "merging the parts", "finishing"};
      bytes_.step(kNames[static_cast<int>(progress.phase)], progress.done, progress.total);
    }
  }
  void finish() { bytes_.finish(); }
  double seconds() const { return bytes_.seconds(); }

 private:
  bert::ByteProgress bytes_;
};

struct Arguments {
  std::string tokenizer, output, drop_duplicates = "none";
  bert::TextArguments text;
  bool cased = false, overwrite = false, json = false;
  bert::PreparationOptions preparation;
};

void add_options(bert::CommandLine& line, Arguments& arguments) {
  bert::PreparationOptions& options = arguments.preparation;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  options.max_unknown_rate = 0.1;
  line.add("--tokenizer", arguments.tokenizer,
           "Tokenizer folder, vocab.txt or SentencePiece .model")
      .required();
  line.add("--input", options.files,
           "Files, folders (read whole, in the order of the names) and quoted patterns; - is "
           "standard input")
      .required();
  line.add("--output", arguments.output,
           "Folder to write: a new or an empty one, or, with --overwrite, an older corpus and "
           "nothing else")
      .required();
  line.add("--overwrite", arguments.overwrite,
           "Replace an older corpus, once the new one is whole");
  arguments.text.add_to(line);
  line.add("--drop-duplicates", arguments.drop_duplicates,
           "Keep only the first of documents, or of lines anywhere in the input, that are the same "
           "byte for byte")
      .one_of({"none", "documents", "lines"});
  line.add("--min-line-chars", options.text.min_line_chars, "Leave out lines of fewer characters");
  line.add("--min-document-words", options.min_document_words,
           "Leave out documents of fewer words");
  line.add("--max-unknown-rate", options.max_unknown_rate,
           "Refuse a corpus with a larger share of [UNK] among its words");
  line.add("--validation-fraction", options.writer.validation_fraction,
           "Share of the documents that goes to validation, in [0, 1)");
  line.add("--seed", options.writer.seed, "Seed of the split");
  line.add("--sequence-length", options.writer.sequence_lengths,
           "Sequence lengths to store cut tables for; others still work, but are computed "
           "when training starts")
      .range(8, 1 << 20);
  line.add("--short-sequence-probability", options.writer.short_sequence_probability,
           "Share of the documents that those tables cut to shorter samples, as "
           "data.short_sequence_probability of train")
      .range(0.0, 1.0);
  line.add("--threads", options.threads, "Threads at work; the result is the same");
  line.add("--cased", arguments.cased, "A bare vocab.txt is cased");
  line.add("--json", arguments.json, "Print the report as JSON");
}

bert::DropDuplicates parse_drop_duplicates(const std::string& name) {
  if (name == "documents") return bert::DropDuplicates::documents;
  return name == "lines" ? bert::DropDuplicates::lines : bert::DropDuplicates::none;
}

int run(int argc, char** argv) {
  bert::CommandLine line(
      "Turns raw text into a corpus that train reads: memory-mapped token shards with checksums,\n"
      "split into training and validation by document. Text is UTF-8, plain or .gz, .bz2, .xz,\n"
      ".zst, as lines or as JSON lines. If it is stopped or killed, the same command again goes "
      "on\n"
      "from what is finished (kept in OUTPUT.partial); the result is the same to the byte.",
      "prepare_corpus");
  Arguments arguments;
  add_options(line, arguments);
  if (const auto done = line.parse(argc, argv)) return *done;

  bert::PreparationOptions& options = arguments.preparation;
  options.output = arguments.output;
  if (!arguments.overwrite && bert::is_corpus(options.output)) {
    bert::throw_input_error("{} holds a corpus already; --overwrite replaces it", arguments.output);
  }
  arguments.text.apply_to(options.text);
  options.drop_duplicates = parse_drop_duplicates(arguments.drop_duplicates);
  bert::TokenizerOptions tokenizer_options;
  tokenizer_options.cased = arguments.cased;
  const auto tokenizer = bert::load_tokenizer(arguments.tokenizer, tokenizer_options);
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { interrupted = 1; });
  ProgressDisplay display;
  options.progress = [&](const PreparationProgress& progress) {
    stop_when_interrupted();
    display.update(progress);
  };
  const PreparationReport report = bert::prepare_corpus(*tokenizer, options);
  display.finish();
  const Costs costs{display.seconds(), peak_memory()};
  if (report.parts_resumed > 0 || report.parts_outdated > 0) {
    fmt::print(stderr,
               "of an earlier run took {} of {}; removed {} of other inputs, options or another "
               "tokenizer\n",
               report.parts_resumed, plural(report.parts, "part"), report.parts_outdated);
  }
  if (arguments.json) {
    print_json(report, costs, arguments.output);
  } else {
    print_report(report, costs, arguments.output);
  }
  print_warnings(report);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return bert::run_program([&] { return run(argc, argv); });
}
