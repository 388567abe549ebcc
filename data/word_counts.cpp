#include "data/word_counts.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <thread>

#include "data/input_files.h"
#include "data/ordered_pipeline.h"
#include "data/text_blocks.h"
#include "data/word_collection.h"
#include "data/word_table.h"
#include "runtime/error.h"

namespace bert {
namespace {

// A thread's own table is emptied into the collection at so many words. The frequent ones are in it
// again at once, so that threads seldom meet at the collection's locks.
constexpr std::size_t kOwnWords = std::size_t{1} << 17;
constexpr std::uint64_t kProgressStep = std::uint64_t{1} << 20;

struct Counter {
  WordTable own;
  std::uint64_t total = 0, too_long = 0;
};

// What a block was, its lines counted.
struct CountedBlock {
  ParsedText parsed;  // without its lines
  std::uint64_t lines = 0, bytes = 0;
};

class ParallelCount {
 public:
  ParallelCount(const WordSplitterOptions& splitter, const WordCountOptions& options)
      : options_(options), splitter_(splitter), collection_(options.memory_bytes) {}

  // Thread-safe.
  CountedBlock count(const TextBlock& block) {
    CountedBlock counted;
    counted.parsed = parse_text_block(block, options_.reader);
    std::unique_ptr<Counter> counter = borrow();
    for (const std::string_view line : counted.parsed.lines) {
      counted.bytes += line.size();
      count_line(line, *counter);
    }
    counted.lines = counted.parsed.lines.size();
    counted.parsed.lines = {};
    counted.parsed.storage = {};
    if (counter->own.size() >= kOwnWords) collection_.add(counter->own);
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(counter));
    return counted;
  }

  // When no thread counts any more.
  void finish(WordCounts& result) {
    for (const auto& counter : idle_) {
      collection_.add(counter->own);
      counter->own.release();
      result.total += counter->total;
      result.too_long += counter->too_long;
    }
    WordCollection::Selection selection = collection_.take(options_.max_words);
    result.words = std::move(selection.words);
    result.distinct = selection.distinct;
    result.left_out = result.total - result.too_long;
    for (const auto& item : result.words) result.left_out -= item.second;
  }

 private:
  std::unique_ptr<Counter> borrow() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return std::make_unique<Counter>();
    std::unique_ptr<Counter> counter = std::move(idle_.back());
    idle_.pop_back();
    return counter;
  }

  void count_line(std::string_view line, Counter& counter) const {
    WordSplitter::Scanner scanner(splitter_, line);
    SplitWord word;
    while (scanner.next(word)) {
      ++counter.total;
      if (word.text.size() > options_.max_word_bytes) {
        ++counter.too_long;
      } else {
        counter.own.add(word.text, 1);
      }
    }
  }

  const WordCountOptions& options_;
  const WordSplitter splitter_;
  WordCollection collection_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Counter>> idle_;
};

}  // namespace

WordCounts count_words(const std::vector<std::string>& files,
                       const WordSplitterOptions& splitter_options,
                       const WordCountOptions& options) {
  const int threads = options.threads > 0
                          ? options.threads
                          : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const Inputs inputs = expand_inputs(files);
  ParallelCount count(splitter_options, options);
  WordCounts result;
  std::uint64_t bytes_before = 0, bytes_reported = 0;
  for (const InputFile& file : inputs.files) {
    // Of this file; its blocks come out in order, so that errors name the first bad line.
    OrderedPipeline<TextBlock, CountedBlock> pipeline(
        threads, [&count](TextBlock& block) { return count.count(block); });
    std::uint64_t line_ends = 0, lines = 0;
    const auto take = [&] {
      const CountedBlock counted = pipeline.take();
      result.text.add(counted.parsed, display_name(file.path), line_ends);
      line_ends += counted.parsed.line_ends;
      lines += counted.lines;
      result.text.lines += counted.lines;
      result.text.bytes += counted.bytes;
    };
    const std::uint64_t left_out_before = result.text.malformed + result.text.short_lines;
    TextBlockReader reader(file.path, options.reader);
    for (TextBlock block; reader.next(block);) {
      while (pipeline.in_flight() >= static_cast<std::size_t>(threads) * 2) take();
      pipeline.put(std::move(block));
      const std::uint64_t bytes = bytes_before + reader.bytes_read();
      if (options.reader.progress && bytes >= bytes_reported + kProgressStep) {
        options.reader.progress(bytes_reported = bytes, inputs.bytes);
      }
    }
    while (pipeline.in_flight() > 0) take();
    const bool left_out = result.text.malformed + result.text.short_lines > left_out_before;
    if (lines == 0 && !left_out && file.named) {
      throw_input_error("{} holds no text, only blank lines", display_name(file.path));
    }
    bytes_before += reader.bytes_read();
    ++result.text.files;
  }
  if (options.reader.progress) options.reader.progress(bytes_before, inputs.bytes);
  count.finish(result);
  return result;
}

}  // namespace bert
