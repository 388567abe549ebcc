// train_tokenizer: a vocabulary from raw text, and how well it fits that text.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <unistd.h>

#include "data/shards/corpus.h"
#include "data/tokenization/sentencepiece_tokenizer.h"
#include "data/tokenization/sentencepiece_trainer.h"
#include "data/tokenization/vocab_trainer.h"
#include "data/tokenization/word_counts.h"
#include "data/tokenization/wordpiece_tokenizer.h"
#include "runtime/command_line.h"
#include "runtime/error.h"
#include "runtime/output_folder.h"
#include "runtime/plural.h"
#include "runtime/program.h"
#include "tools/text_arguments.h"

namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
  std::string type = "wordpiece", method = "frequency", model = "unigram", mode = "huggingface",
              output;
  bert::TextArguments text;
  std::vector<std::string> input;
  std::int32_t vocab_size = 30522, max_alphabet = 1000;
  std::uint64_t min_frequency = 2;
  std::size_t memory_mib = 384, max_words = 4'000'000, sample_mib = 40;
  int threads = 0;
  bool cased = false, overwrite = false, json = false;
};

// Progress on standard error once the work takes over a second: one line that is rewritten on a
// terminal, a line per tenth elsewhere.
class Progress {
 public:
  explicit Progress(std::string what) : what_(std::move(what)) {}
  void show(double fraction) {
    const int percent = static_cast<int>(100 * std::clamp(fraction, 0.0, 1.0));
    const int step = terminal_ ? 1 : 10;
    if (percent / step <= last_ / step && last_ >= 0) return;
    if (std::chrono::steady_clock::now() - begin_ < std::chrono::seconds(1)) return;
    last_ = percent;
    std::fprintf(stderr, terminal_ ? "\r%s: %d %%" : "%s: %d %%\n", what_.c_str(), percent);
  }
  ~Progress() {
    if (terminal_ && last_ >= 0) std::fprintf(stderr, "\n");
  }

 private:
  std::string what_;
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  int last_ = -1;
};

bert::TextReaderOptions reader_options(const Arguments& arguments, Progress& progress) {
  bert::TextReaderOptions options;
  arguments.text.apply_to(options);
  options.progress = [&progress](std::uint64_t read, std::uint64_t total) {
    if (total > 0) progress.show(static_cast<double>(read) / static_cast<double>(total));
  };
  return options;
}

void warn_of_bad_text(const bert::TextStats& text) {
  if (text.invalid_utf8 > 0) {
    std::cerr << "warning: replaced " << bert::plural(text.invalid_utf8, "invalid UTF-8 sequence")
              << " by U+FFFD, first at " << text.first_invalid_utf8 << "\n";
  }
  if (text.malformed > 0) {
    std::cerr << "warning: left out " << bert::plural(text.malformed, "malformed record")
              << ", first at " << text.first_malformed << "\n";
  }
}

bool is_tokenizer_file(const std::filesystem::path& name) {
  static constexpr std::string_view kNames[] = {"tokenizer.json", "vocab.txt",
                                                "tokenizer_config.json", "special_tokens_map.json",
                                                "added_tokens.json"};
  return name.extension() == ".model" ||
         std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

// A new or an empty folder, or one that holds a tokenizer and nothing else.
void check_output_folder(const std::filesystem::path& folder, bool overwrite) {
  if (!std::filesystem::is_directory(folder) || std::filesystem::is_empty(folder)) return;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (is_tokenizer_file(entry.path().filename())) continue;
    bert::throw_input_error(
        "{}: \"{}\" in it is not of a tokenizer; it is left as it is, choose another folder",
        folder.string(), entry.path().filename().string());
  }
  if (bert::is_corpus(std::filesystem::canonical(folder).parent_path())) {
    bert::throw_input_error(
        "{} holds the tokenizer of a corpus, which would be of no use with another; name another "
        "folder",
        folder.string());
  }
  if (overwrite) return;
  bert::throw_input_error("{} holds a tokenizer already; --overwrite replaces it", folder.string());
}

// Of the tokenizer that was there, what would be read as if it belonged to the new one.
void remove_older(const Arguments& arguments) {
  const bool wordpiece = arguments.type == "wordpiece";
  std::vector<std::filesystem::path> older;
  for (const auto& entry : std::filesystem::directory_iterator(arguments.output)) {
    const std::filesystem::path& file = entry.path();
    const bool other_kind =
        wordpiece ? file.extension() == ".model" : file.filename() == "vocab.txt";
    const bool other_model = file.extension() == ".model" && file.filename() != "spiece.model";
    if (other_kind || other_model || file.filename() == "added_tokens.json") older.push_back(file);
  }
  for (const std::filesystem::path& file : older) std::filesystem::remove(file);
}

struct Fit {
  std::uint64_t words = 0, tokens = 0, unknown = 0;
};

// Tokens and white-space separated words of the first megabytes of the text.
Fit measure_fit(const bert::Tokenizer& tokenizer, const Arguments& arguments) {
  constexpr std::uint64_t kSampleBytes = std::uint64_t{4} << 20;
  bert::TextReaderOptions options;
  arguments.text.apply_to(options);
  bert::TextReader reader(arguments.input, options);
  Fit fit;
  std::vector<bert::Token> tokens;
  std::uint64_t bytes = 0;
  for (std::string_view line; bytes < kSampleBytes && reader.next_line(line);) {
    bytes += line.size();
    tokens.clear();
    tokenizer.encode(line, tokens);
    fit.tokens += tokens.size();
    for (const bert::Token& token : tokens) fit.unknown += token.id == tokenizer.special().unk;
    bool in_word = false;
    for (const char c : line) {
      const bool space = c == ' ' || c == '\t';
      fit.words += !space && !in_word;
      in_word = !space;
    }
  }
  return fit;
}

std::unique_ptr<bert::Tokenizer> train_wordpiece(const Arguments& arguments, Json& report) {
  bert::WordpieceOptions options =
      bert::wordpiece_options(arguments.cased, bert::parse_compat_mode(arguments.mode));
  bert::WordCounts counts;
  {
    Progress progress("reading");
    bert::WordCountOptions count;
    count.threads = arguments.threads;
    count.memory_bytes = arguments.memory_mib << 20;
    count.max_words = arguments.max_words;
    count.reader = reader_options(arguments, progress);
    counts = bert::count_words(arguments.input, options.splitter, count);
  }
  bert::VocabTrainerOptions trainer;
  trainer.method = bert::parse_vocab_method(arguments.method);
  trainer.vocab_size = arguments.vocab_size;
  trainer.min_frequency = arguments.min_frequency;
  trainer.max_alphabet = arguments.max_alphabet;
  trainer.max_word_chars = options.max_word_chars;
  trainer.special = options.special;
  bert::TrainedVocab vocab;
  {
    Progress progress("learning");
    trainer.progress = [&progress](std::int32_t found, std::int32_t wanted) {
      progress.show(static_cast<double>(found) / wanted);
    };
    vocab = bert::train_wordpiece(counts, trainer);
  }
  warn_of_bad_text(counts.text);
  report["method"] = arguments.method;
  report["bytes"] = counts.text.bytes;
  report["words"] = counts.total;
  report["distinct_words"] = counts.distinct;
  report["rare_words_left_out"] = counts.distinct - counts.words.size();
  report["alphabet"] = vocab.alphabet;
  report["characters_left_out"] = vocab.characters_left_out;
  return std::make_unique<bert::WordpieceTokenizer>(std::move(vocab.pieces), std::move(options));
}

std::unique_ptr<bert::Tokenizer> train_sentencepiece(const Arguments& arguments, Json& report) {
  bert::SentencepieceTrainerOptions options;
  options.vocab_size = arguments.vocab_size;
  options.type = arguments.model;
  options.cased = arguments.cased;
  options.max_bytes = arguments.sample_mib << 20;
  Progress progress("reading");
  options.reader = reader_options(arguments, progress);
  bert::TrainedSentencepiece trained = bert::train_sentencepiece(arguments.input, options);
  warn_of_bad_text(trained.text);
  report["model"] = arguments.model;
  report["bytes"] = trained.text.bytes;
  report["lines"] = trained.text.lines;
  report["lines_learned_from"] = trained.lines;
  return std::make_unique<bert::SentencepieceTokenizer>(std::move(trained.model),
                                                        "the trained model");
}

int run(const Arguments& arguments) {
  if (std::find(arguments.input.begin(), arguments.input.end(), "-") != arguments.input.end()) {
    bert::throw_input_error(
        "--input -: the text is read twice, which standard input cannot be; name files");
  }
  check_output_folder(arguments.output, arguments.overwrite);
  const bert::NewFolder folder(arguments.output);
  Json report;
  report["type"] = arguments.type;
  const auto tokenizer = arguments.type == "wordpiece" ? train_wordpiece(arguments, report)
                                                       : train_sentencepiece(arguments, report);
  tokenizer->save(arguments.output);
  remove_older(arguments);
  const Fit fit = measure_fit(*tokenizer, arguments);
  const auto ratio = [](std::uint64_t a, std::uint64_t b) {
    return b == 0 ? 0.0 : static_cast<double>(a) / static_cast<double>(b);
  };
  report["vocab_size"] = tokenizer->vocab_size();
  report["tokens_per_word"] = ratio(fit.tokens, fit.words);
  report["unknown_rate"] = ratio(fit.unknown, fit.tokens);
  report["fingerprint"] = tokenizer->fingerprint();
  report["output"] = arguments.output;
  if (tokenizer->vocab_size() < arguments.vocab_size) {
    std::cerr << "warning: the text yields " << tokenizer->vocab_size() << " entries, not "
              << arguments.vocab_size << "; more text or a smaller --min-frequency yields more\n";
  }
  if (arguments.json) {
    std::cout << report.dump() << '\n';
    return 0;
  }
  if (report.contains("words")) {
    fmt::print("{:.1f} MB of text, {}, {} different; {}, {} more left out\n",
               static_cast<double>(report["bytes"].get<std::uint64_t>()) / 1e6,
               bert::plural(report["words"].get<std::uint64_t>(), "word"),
               report["distinct_words"].get<std::uint64_t>(),
               bert::plural(report["alphabet"].get<std::uint64_t>(), "character"),
               report["characters_left_out"].get<int>());
  }
  fmt::print("{} entries in {}: {:.3f} tokens per word, {:.4f} % of them {}\n",
             tokenizer->vocab_size(), arguments.output, report["tokens_per_word"].get<double>(),
             100 * report["unknown_rate"].get<double>(),
             tokenizer->piece(tokenizer->special().unk));
  return 0;
}

int parse_and_run(int argc, char** argv) {
  bert::CommandLine line(
      "Makes a vocabulary from raw text, in the files that Hugging Face's AutoTokenizer and "
      "the other programs here read.",
      "train_tokenizer");
  Arguments arguments;
  std::map<std::string, std::vector<std::string>> only_for;  // a type
  const auto add_for = [&](const std::string& type, const std::string& name, auto& value,
                           const std::string& meaning) {
    only_for[type].push_back(name);
    return line.add(name, value, type + ": " + meaning);
  };
  line.add("--type", arguments.type, "the kind of vocabulary")
      .one_of({"wordpiece", "sentencepiece"});
  line.add("--vocab-size", arguments.vocab_size, "entries, special tokens included")
      .range(10, 1 << 24);
  line.add("--input", arguments.input,
           "UTF-8 text or JSON lines, plain or compressed (.gz, .bz2, .xz, .zst): files, folders "
           "and quoted patterns")
      .required();
  line.add("--output", arguments.output,
           "the folder to write: a new or an empty one, or, with --overwrite, one with a tokenizer "
           "and nothing else")
      .required();
  line.add("--overwrite", arguments.overwrite, "replace the tokenizer that is there");
  line.add("--cased", arguments.cased, "keep capitals and accents apart");
  add_for("wordpiece", "--wordpiece-method", arguments.method,
          "join the most frequent pair, or the one that raises the likelihood of the text most")
      .one_of({"frequency", "likelihood"});
  add_for("wordpiece", "--min-frequency", arguments.min_frequency,
          "join pieces only where they meet this often");
  add_for("wordpiece", "--max-alphabet", arguments.max_alphabet,
          "keep this many different characters, the most frequent")
      .range(1, 1 << 20);
  add_for("wordpiece", "--count-memory", arguments.memory_mib,
          "MiB of word counts held in memory; more go to files in TMPDIR")
      .range(1, 1 << 20);
  add_for("wordpiece", "--max-words", arguments.max_words,
          "learn from so many different words, the most frequent")
      .range(1, 1 << 30);
  add_for("wordpiece", "--mode", arguments.mode, "whose rules split text into words")
      .one_of({"huggingface", "google"});
  add_for("sentencepiece", "--model", arguments.model, "the kind of model")
      .one_of({"unigram", "bpe"});
  line.add("--threads", arguments.threads, "threads that count words; 0: one per processor")
      .range(0, 1024);
  add_for("sentencepiece", "--sample", arguments.sample_mib,
          "learn from so many MiB of the text, random lines of it; takes 25 "
          "times as much memory")
      .range(1, 1 << 20);
  arguments.text.add_to(line);
  line.add("--json", arguments.json, "print the report as JSON");
  if (const auto done = line.parse(argc, argv)) return *done;
  const std::string other = arguments.type == "wordpiece" ? "sentencepiece" : "wordpiece";
  for (const std::string& name : only_for[other]) {
    if (!line.option(name).given()) continue;
    bert::throw_input_error("{} is for --type {} only (see train_tokenizer --help)", name, other);
  }
  return run(arguments);
}

}  // namespace

int main(int argc, char** argv) {
  return bert::run_program([&] { return parse_and_run(argc, argv); });
}
