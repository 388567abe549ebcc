#include "data/tokenization/word_counts.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <thread>

#include "data/tokenization/ordered_pipeline.h"
#include "data/tokenization/word_collection.h"
#include "data/tokenization/word_table.h"

namespace bert {
namespace {

// A thread's own table is emptied into the collection at so many words. The frequent ones are in it
// again at once, so that threads seldom meet at the collection's locks.
constexpr std::size_t kOwnWords = std::size_t{1} << 17;

struct Counter {
  WordTable own;
  std::uint64_t total = 0, too_long = 0;
};

class ParallelCount {
 public:
  ParallelCount(const WordSplitterOptions& splitter, const WordCountOptions& options)
      : options_(options), splitter_(splitter), collection_(options.memory_bytes) {}

  // Counts the words of a block; what it was comes back without its lines. Thread-safe.
  ParsedText count(const TextBlock& block) {
    ParsedText parsed = parse_text_block(block, options_.reader);
    std::unique_ptr<Counter> counter = borrow();
    for (const std::string_view line : parsed.lines) count_line(line, *counter);
    parsed.lines = {};
    parsed.storage = {};
    if (counter->own.size() >= kOwnWords) collection_.add(counter->own);
    const std::lock_guard lock(mutex_);
    idle_.push_back(std::move(counter));
    return parsed;
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
  TextReader reader(files, options.reader);
  ParallelCount count(splitter_options, options);
  // Blocks come out in order, so that errors name the first bad line.
  OrderedPipeline<TextBlock, ParsedText> pipeline(
      threads, [&count](TextBlock& block) { return count.count(block); });
  while (reader.next_file()) {
    for (TextBlock block; reader.next_block(block);) {
      while (pipeline.in_flight() >= static_cast<std::size_t>(threads) * 2) {
        reader.add(pipeline.take());
      }
      pipeline.put(std::move(block));
    }
    while (pipeline.in_flight() > 0) reader.add(pipeline.take());
  }
  WordCounts result;
  count.finish(result);
  result.text = reader.stats();
  return result;
}

}  // namespace bert
