#include "data/shards/corpus_preparation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>

#include "data/shards/corpus_parts.h"
#include "data/shards/duplicates.h"
#include "data/shards/part_maker.h"
#include "runtime/descriptor.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/output_folder.h"
#include "runtime/plural.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kReportedUnknownWords = 10;
constexpr std::uint64_t kProgressTokens = std::uint64_t{1} << 22;

// The folder of unfinished work, held by one process at a time.
class WorkFolder {
 public:
  explicit WorkFolder(fs::path folder)
      : folder_(std::move(folder)), made_(folder_ / "parts"), lock_(open_lock()) {
    if (::flock(lock_.fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      throw_runtime_error("{} is in use: another prepare_corpus is writing the same corpus",
                          folder_.string());
    }
  }
  ~WorkFolder() {
    std::error_code ignored;
    if (finished_ || fs::is_empty(parts(), ignored)) fs::remove_all(folder_, ignored);
  }
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;

  const fs::path& path() const { return folder_; }
  fs::path parts() const { return folder_ / "parts"; }
  bool holds_finished_parts() const {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(parts(), ignored)) {
      if (fs::exists(entry.path() / "part.json", ignored)) return true;
    }
    return false;
  }
  // Removes the parts that are not finished; nobody could take them up.
  void remove_unfinished() const {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(parts(), ignored)) {
      if (!fs::exists(entry.path() / "part.json", ignored)) fs::remove_all(entry.path(), ignored);
    }
  }
  void finish() { finished_ = true; }

 private:
  int open_lock() const {
    const fs::path lock = folder_ / "lock";
    const int descriptor = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0) {
      throw_runtime_error("cannot write {}: {}", lock.string(), std::strerror(errno));
    }
    return descriptor;
  }

  fs::path folder_;
  NewFolder made_;
  Descriptor lock_;
  bool finished_ = false;
};

struct Part {
  PartPlan plan;
  fs::path folder;
  PartSummary summary;
};

class Preparation {
 public:
  Preparation(const Tokenizer& tokenizer, const PreparationOptions& options, WorkFolder& work)
      : tokenizer_(tokenizer),
        options_(options),
        work_(work),
        inputs_(expand_inputs(options.files)),
        writer_(options.output, tokenizer, options.writer, work.path()) {}

  PreparationReport run() {
    plan();
    tokenize();
    find_duplicates_among_parts();
    merge();
    check();
    tell(PreparationProgress::Phase::finishing, 0, 0);
    report_.manifest = writer_.commit();
    return std::move(report_);
  }

 private:
  bool drops(DropDuplicates what) const { return options_.drop_duplicates == what; }

  void tell(PreparationProgress::Phase phase, std::uint64_t done, std::uint64_t total) {
    progress_.phase = phase;
    progress_.done = done;
    progress_.total = total;
    if (options_.progress) options_.progress(progress_);
  }

  void plan() {
    report_.input_bytes = inputs_.bytes;
    report_.left_out_files = inputs_.left_out;
    report_.first_left_out_file = inputs_.first_left_out;
    const std::uint64_t part_bytes =
        options_.part_bytes > 0 ? options_.part_bytes : default_part_bytes(inputs_.bytes);
    for (PartPlan& part_plan : plan_parts(inputs_, options_.text, tokenizer_.fingerprint(),
                                          drops(DropDuplicates::lines), part_bytes)) {
      const std::string name = part_plan.folder_name();
      parts_.push_back({std::move(part_plan), work_.parts() / name, {}});
    }
    report_.parts = parts_.size();
  }

  void tokenize() {
    std::set<fs::path> wanted;
    for (const Part& part : parts_) wanted.insert(part.folder);
    for (const auto& entry : fs::directory_iterator(work_.parts())) {
      if (wanted.contains(entry.path())) continue;
      report_.parts_outdated += fs::exists(entry.path() / "part.json") ? 1 : 0;
      fs::remove_all(entry.path());
    }
    std::vector<PartJob> jobs;
    std::map<fs::path, const Part*> made;  // the same file may be given twice
    for (Part& part : parts_) {
      if (part.plan.keep &&
          load_part_summary(part.folder, part.plan, tokenizer_.vocab_size(), part.summary)) {
        ++report_.parts_resumed;
        progress_.resumed += part.plan.bytes;
      } else if (made.emplace(part.folder, &part).second) {
        jobs.push_back({&part.plan, part.folder, &part.summary});
      }
    }
    PartMakerOptions maker;
    maker.text = options_.text;
    maker.threads = options_.threads;
    maker.line_hashes = drops(DropDuplicates::lines);
    maker.max_document_bytes = options_.max_document_bytes;
    maker.progress = [&](std::uint64_t bytes, std::uint64_t documents, std::uint64_t tokens) {
      progress_.documents = documents;
      progress_.tokens = tokens;
      tell(PreparationProgress::Phase::tokenizing, progress_.resumed + bytes, inputs_.bytes);
    };
    make_parts(tokenizer_, maker, jobs);
    for (Part& part : parts_) {
      if (part.summary.segment_documents.empty()) part.summary = made.at(part.folder)->summary;
    }
    WordTally unknown;
    for (const Part& part : parts_) {
      report_.text += part.summary.text;
      merge_tally({part.summary.unknown_words.begin(), part.summary.unknown_words.end()}, unknown);
    }
    report_.unknown_words = commonest_words(unknown, kReportedUnknownWords);
  }

  void find_duplicates_among_parts() {
    if (drops(DropDuplicates::none)) return;
    std::vector<fs::path> files;
    for (const Part& part : parts_) {
      files.push_back(part.folder /
                      (drops(DropDuplicates::lines) ? "line_hashes.bin" : "document_hashes.bin"));
    }
    duplicate_ = find_duplicates(files, options_.duplicates_budget,
                                 [&](std::uint64_t done, std::uint64_t passes) {
                                   tell(PreparationProgress::Phase::comparing, done, passes);
                                 });
  }

  void merge() {
    std::uint64_t total = 0, done = 0, told = 0;
    for (const Part& part : parts_) total += part.summary.tokens;
    progress_.documents = progress_.tokens = 0;
    std::size_t source = 0;
    begin_source(source);
    TokenizedDocument document;
    for (const Part& part : parts_) {
      const TokenShard shard(part.folder, tokenizer_.vocab_size());
      std::uint64_t next = 0;
      for (std::size_t i = 0; i < part.plan.segments.size(); ++i) {
        while (source < part.plan.segments[i].file.source) begin_source(++source);
        const std::uint64_t end = next + part.summary.segment_documents.at(i);
        for (; next < end; ++next) {
          shard.read_document(next, document);
          done += document.ids.size();
          add(document);
          if (done - told < kProgressTokens) continue;
          told = done;
          progress_.tokens = done;
          tell(PreparationProgress::Phase::merging, done, total);
        }
      }
    }
    dropped_.short_lines = report_.text.short_lines;
    writer_.set_dropped(dropped_);
  }

  void begin_source(std::size_t source) {
    writer_.begin_source(display_name(options_.files[source]));
  }

  // The next document of the input, unless it is to be left out.
  void add(TokenizedDocument& document) {
    const std::uint64_t sentence = num_sentences_;
    num_sentences_ += document.sentence_ends.size();
    ++num_documents_;
    if (drops(DropDuplicates::documents) && duplicate_[num_documents_ - 1]) {
      ++dropped_.duplicate_documents;
      return;
    }
    if (drops(DropDuplicates::lines)) drop_lines(sentence, document);
    if (document.ids.empty()) return;
    const auto words = static_cast<std::uint64_t>(
        std::count(document.word_starts.begin(), document.word_starts.end(), 1));
    if (words < options_.min_document_words) {
      ++dropped_.short_documents;
      return;
    }
    const auto unknown =
        std::count(document.ids.begin(), document.ids.end(), tokenizer_.special().unk);
    writer_.add(document, static_cast<std::uint64_t>(unknown));
    ++progress_.documents;
  }

  // `first`: the number of its first sentence.
  void drop_lines(std::uint64_t first, TokenizedDocument& document) {
    std::size_t kept_tokens = 0, kept = 0;
    std::uint32_t begin = 0;
    for (std::size_t i = 0; i < document.sentence_ends.size(); ++i) {
      const std::uint32_t end = document.sentence_ends[i];
      if (duplicate_[first + i]) {
        ++dropped_.duplicate_lines;
      } else {
        std::copy(document.ids.begin() + begin, document.ids.begin() + end,
                  document.ids.begin() + static_cast<std::ptrdiff_t>(kept_tokens));
        std::copy(document.word_starts.begin() + begin, document.word_starts.begin() + end,
                  document.word_starts.begin() + static_cast<std::ptrdiff_t>(kept_tokens));
        kept_tokens += end - begin;
        document.sentence_ends[kept++] = static_cast<std::uint32_t>(kept_tokens);
      }
      begin = end;
    }
    document.ids.resize(kept_tokens);
    document.word_starts.resize(kept_tokens);
    document.sentence_ends.resize(kept);
  }

  void check() {
    for (const CorpusSource& source : writer_.sources()) {
      report_.counts += source.counts;
      if (source.counts.documents == 0) {
        report_.warnings.push_back(fmt::format(
            "{} gave no document: it holds no text, or all of it was left out", source.name));
      }
    }
    if (report_.counts.documents == 0) {
      throw_input_error(
          "the input has no text in it, or all of it was left out: of {} read, {} and {} are "
          "duplicates (--drop-duplicates), {} and {} too short (--min-document-words, "
          "--min-line-chars)",
          plural(report_.text.lines, "line"), plural(dropped_.duplicate_documents, "document"),
          plural(dropped_.duplicate_lines, "line"), plural(dropped_.short_documents, "document"),
          plural(dropped_.short_lines, "line"));
    }
    const double unknown =
        static_cast<double>(report_.counts.unknown) / static_cast<double>(report_.counts.words);
    if (unknown > options_.max_unknown_rate) {
      std::string words;
      for (const auto& [word, count] : report_.unknown_words) {
        words += fmt::format(" {} ({})", word, count);
      }
      throw_input_error(
          "{:.1f} % of the words are not in the vocabulary and would become [UNK], more than the "
          "{:.1f} % allowed; the commonest are{}. Is it the right tokenizer for this text, cased "
          "or uncased? --max-unknown-rate allows more",
          100 * unknown, 100 * options_.max_unknown_rate, words);
    }
  }

  const Tokenizer& tokenizer_;
  const PreparationOptions& options_;
  WorkFolder& work_;
  Inputs inputs_;
  CorpusWriter writer_;
  std::vector<Part> parts_;
  std::vector<bool> duplicate_;  // documents or sentences, in the order of the input
  std::uint64_t num_documents_ = 0, num_sentences_ = 0;  // of the input so far
  CorpusDropped dropped_;
  PreparationProgress progress_;
  PreparationReport report_;
};

}  // namespace

fs::path partial_folder(const fs::path& output) {
  return renamed_folder(output).string() + ".partial";
}

PreparationReport prepare_corpus(const Tokenizer& tokenizer, const PreparationOptions& options) {
  if (options.threads < 1 || options.threads > 1024) {
    throw_input_error("--threads is {}: expected 1 to 1024", options.threads);
  }
  if (!(options.max_unknown_rate >= 0 && options.max_unknown_rate <= 1)) {
    throw_input_error("--max-unknown-rate is {}: expected 0 to 1", options.max_unknown_rate);
  }
  check_corpus_output(options.output);
  WorkFolder work(partial_folder(options.output));
  try {
    PreparationReport report = Preparation(tokenizer, options, work).run();
    work.finish();
    return report;
  } catch (const Error& error) {
    work.remove_unfinished();
    if (!work.holds_finished_parts()) throw;
    const std::string kept =
        fmt::format("{} (what is finished is kept in {}", error.what(), work.path().string());
    // What was given is wrong, and the same again would be.
    if (error.exit_code() == 2) throw InputError(kept + ")");
    throw RuntimeError(kept + "; the same command goes on from there)");
  }
}

}  // namespace bert
