#include "data/shards/part_maker.h"

#include <atomic>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "data/shards/duplicates.h"
#include "data/shards/task_queue.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/start_thread.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kBytesInFlight = std::size_t{64} << 20;
constexpr std::size_t kKeptUnknownWords = 1000;

struct TokenizedBlock {
  ParsedText parsed;  // its counts; the lines are gone
  TokenizedDocument sentences;
  std::vector<std::uint32_t> document_ends;  // sentences before the end of a document
  std::vector<std::uint32_t> sentence_bytes;
  std::vector<TextHash> sentence_hashes;
  WordTally unknown_words;
};

TokenizedBlock tokenize(const Tokenizer& tokenizer, const TextParsingOptions& options,
                        const TextBlock& block) {
  TokenizedBlock result;
  result.parsed = parse_text_block(block, options);
  ParsedText& parsed = result.parsed;
  TokenizedDocument& sentences = result.sentences;
  std::vector<Token> tokens;
  const std::int32_t unk = tokenizer.special().unk;
  std::size_t next_end = 0;
  for (std::size_t i = 0; i <= parsed.lines.size(); ++i) {
    for (; next_end < parsed.document_ends.size() && parsed.document_ends[next_end] == i;
         ++next_end) {
      result.document_ends.push_back(static_cast<std::uint32_t>(sentences.sentence_ends.size()));
    }
    if (i == parsed.lines.size()) break;
    const std::string_view line = parsed.lines[i];
    tokens.clear();
    tokenizer.encode(line, tokens);
    if (tokens.empty()) continue;
    sentences.add_sentence(tokens);
    result.sentence_bytes.push_back(static_cast<std::uint32_t>(line.size()));
    result.sentence_hashes.push_back(hash_text(line));
    for (const Token& token : tokens) {
      if (token.id == unk) {
        ++result.unknown_words[std::string(line.substr(token.begin, token.end - token.begin))];
      }
    }
  }
  parsed.lines.clear();
  parsed.storage.clear();
  return result;
}

// Writes the files of a part, block after block.
class PartWriter {
 public:
  PartWriter(const fs::path& folder, std::int32_t vocab_size, const PartMakerOptions& options)
      : max_document_bytes_(options.max_document_bytes),
        shard_(folder, vocab_size),
        document_hashes_(folder / "document_hashes.bin", kHashesKind, sizeof(TextHash)) {
    if (options.line_hashes) {
      line_hashes_.emplace(folder / "line_hashes.bin", kHashesKind, sizeof(TextHash));
    }
  }

  void add(const TokenizedBlock& block, PartSummary& summary) {
    merge_tally(block.unknown_words, unknown_words_);
    std::size_t sentence = 0;
    for (const std::uint32_t end : block.document_ends) {
      add_sentences(block, sentence, end, summary.text);
      sentence = end;
      end_document();
    }
    add_sentences(block, sentence, block.sentence_bytes.size(), summary.text);
  }

  void end_document() {
    if (document_bytes_ == 0) return;
    shard_.end_document();
    document_hashes_.append_value(document_hash_);
    document_hash_ = {};
    document_bytes_ = 0;
  }

  std::uint64_t documents() const { return shard_.num_documents(); }
  std::uint64_t tokens() const { return shard_.num_tokens(); }

  void commit(PartSummary& summary) {
    summary.documents = shard_.num_documents();
    summary.sentences = shard_.num_sentences();
    summary.tokens = shard_.num_tokens();
    summary.unknown_words = commonest_words(unknown_words_, kKeptUnknownWords);
    for (const auto& [file, digest] : shard_.commit()) summary.digests[file] = digest;
    summary.digests["document_hashes.bin"] = document_hashes_.commit();
    if (line_hashes_) summary.digests["line_hashes.bin"] = line_hashes_->commit();
  }

 private:
  // Sentences [first, last) of the block, of one document; it ends where it gets too long.
  void add_sentences(const TokenizedBlock& block, std::size_t first, std::size_t last,
                     TextStats& text) {
    std::size_t begin = first;
    for (std::size_t i = first; i < last; ++i) {
      document_hash_ = combine_hashes(document_hash_, block.sentence_hashes[i]);
      document_bytes_ += block.sentence_bytes[i];
      if (line_hashes_) line_hashes_->append_value(block.sentence_hashes[i]);
      if (document_bytes_ >= max_document_bytes_) {
        write(block.sentences, begin, i + 1);
        begin = i + 1;
        end_document();
        ++text.cut_documents;
      }
    }
    write(block.sentences, begin, last);
  }

  void write(const TokenizedDocument& sentences, std::size_t first, std::size_t last) {
    if (first == last) return;
    const std::uint32_t begin = first == 0 ? 0 : sentences.sentence_ends[first - 1];
    const std::uint32_t size = sentences.sentence_ends[last - 1] - begin;
    shard_.append_sentences(std::span(sentences.ids).subspan(begin, size),
                            std::span(sentences.word_starts).subspan(begin, size),
                            std::span(sentences.sentence_ends).subspan(first, last - first), begin);
  }

  const std::uint64_t max_document_bytes_;
  TokenShardWriter shard_;
  CorpusFileWriter document_hashes_;
  std::optional<CorpusFileWriter> line_hashes_;
  WordTally unknown_words_;
  TextHash document_hash_;
  std::uint64_t document_bytes_ = 0;  // of the document at hand
};

// A block on its way through whichever thread takes it.
struct Work {
  TextBlock block;
  std::size_t bytes = 0;
  TokenizedBlock result;
  std::exception_ptr error;
  std::atomic<bool> done{false};
};

class Run {
 public:
  Run(const Tokenizer& tokenizer, const PartMakerOptions& options, const std::vector<PartJob>& jobs)
      : tokenizer_(tokenizer), options_(options), jobs_(jobs), errors_(jobs.size()) {}

  void run() {
    opening_ = 1;  // this thread
    std::exception_ptr not_started;
    {
      std::vector<std::jthread> threads;
      try {
        for (int i = 1; i < options_.threads; ++i) {
          ++opening_;
          threads.push_back(start_thread([this] { work(); }));
        }
      } catch (...) {  // those that were started must come to their end
        not_started = std::current_exception();
        --opening_;
        stop_ = true;
      }
      work();
    }
    if (not_started) std::rethrow_exception(not_started);
    for (const std::exception_ptr& error : errors_) {
      if (error) std::rethrow_exception(error);
    }
  }

 private:
  void work() {
    while (!stop_) {
      const std::size_t job = next_job_++;
      if (job >= jobs_.size()) break;
      try {
        make(jobs_[job]);
      } catch (...) {
        errors_[job] = std::current_exception();
        stop_ = true;
      }
    }
    // Whoever still has a part open hands out work.
    if (--opening_ == 0) queue_.close();
    queue_.run_until_closed();
  }

  void make(const PartJob& job) {
    fs::remove_all(job.folder);
    make_directories(job.folder);
    *job.summary = {};
    PartWriter writer(job.folder, tokenizer_.vocab_size(), options_);
    for (const TextSegment& segment : job.plan->segments) {
      const std::uint64_t before = writer.documents();
      read(segment, writer, *job.summary);
      if (stop_) return;
      job.summary->segment_documents.push_back(writer.documents() - before);
    }
    writer.commit(*job.summary);
    if (job.plan->keep) save_part_summary(job.folder, *job.plan, *job.summary);
  }

  void read(const TextSegment& segment, PartWriter& writer, PartSummary& summary) {
    const std::string& path = segment.file.path;
    const std::uint64_t seen_before = summary.text.seen();
    TextBlockReader reader(path, options_.text, segment.begin, segment.end);
    std::deque<std::shared_ptr<Work>> in_flight;
    std::uint64_t line_ends = 0, reported = 0, documents = writer.documents(),
                  tokens = writer.tokens();
    std::optional<std::uint64_t> first_line;  // of the segment; only counted where it is asked for
    const auto write_oldest = [&] {
      const std::shared_ptr<Work> work = in_flight.front();
      in_flight.pop_front();
      wait_for(*work);
      const ParsedText& parsed = work->result.parsed;
      const bool names_lines =
          !parsed.refused.empty() || parsed.invalid_utf8 > 0 || parsed.malformed > 0;
      if (names_lines && !first_line) first_line = count_lines_before(path, segment.begin);
      summary.text.add(parsed, display_name(path), first_line.value_or(0) + line_ends);
      line_ends += parsed.line_ends;
      writer.add(work->result, summary);
    };
    const auto report = [&] {
      tell(reader.bytes_read() - reported, writer.documents() - documents,
           writer.tokens() - tokens);
      reported = reader.bytes_read();
      documents = writer.documents();
      tokens = writer.tokens();
    };
    const std::size_t max_in_flight = 2 * static_cast<std::size_t>(options_.threads) + 1;
    auto work = std::make_shared<Work>();
    while (!stop_ && reader.next(work->block)) {
      work->bytes = work->block.bytes.size();
      while (!in_flight.empty() && (in_flight.front()->done || in_flight.size() > max_in_flight ||
                                    bytes_in_flight_ + work->bytes > kBytesInFlight)) {
        write_oldest();
      }
      hand_out(work);
      in_flight.push_back(std::exchange(work, std::make_shared<Work>()));
      report();
    }
    // Also after a stop: what others work at must not be left behind.
    while (!in_flight.empty()) write_oldest();
    writer.end_document();
    report();
    summary.text.files += segment.begin == 0 ? 1 : 0;  // not each range of a large one
    if (!stop_ && summary.text.seen() == seen_before && segment.whole() && segment.file.named) {
      throw_blank(path);
    }
  }

  void hand_out(const std::shared_ptr<Work>& work) {
    bytes_in_flight_ += work->bytes;
    queue_.put([this, work] {
      try {
        work->result = tokenize(tokenizer_, options_.text, work->block);
        work->block = {};
      } catch (...) {
        work->error = std::current_exception();
      }
      work->done = true;
      work->done.notify_all();
    });
  }

  // Works while it waits.
  void wait_for(Work& work) {
    while (!work.done) {
      if (!queue_.run_one()) work.done.wait(false);
    }
    bytes_in_flight_ -= work.bytes;
    if (work.error) std::rethrow_exception(work.error);
  }

  void tell(std::uint64_t bytes, std::uint64_t documents, std::uint64_t tokens) {
    const std::lock_guard lock(progress_mutex_);
    bytes_ += bytes;
    documents_ += documents;
    tokens_ += tokens;
    if (options_.progress && !stop_) options_.progress(bytes_, documents_, tokens_);
  }

  const Tokenizer& tokenizer_;
  const PartMakerOptions& options_;
  const std::vector<PartJob>& jobs_;
  std::vector<std::exception_ptr> errors_;  // by job
  TaskQueue queue_;
  std::atomic<std::size_t> next_job_{0}, bytes_in_flight_{0};
  std::atomic<int> opening_{0};  // threads that may still hand out work
  std::atomic<bool> stop_{false};
  std::mutex progress_mutex_;
  std::uint64_t bytes_ = 0, documents_ = 0, tokens_ = 0;
};

}  // namespace

void make_parts(const Tokenizer& tokenizer, const PartMakerOptions& options,
                const std::vector<PartJob>& jobs) {
  Run(tokenizer, options, jobs).run();
}

}  // namespace bert
