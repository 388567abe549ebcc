#include "data/word_counts.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string_view>
#include <thread>
#include <unordered_map>

namespace bert {
namespace {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>{}(text);
  }
};
using CountMap = std::unordered_map<std::string, std::uint64_t, StringHash, std::equal_to<>>;

// Text on its way from the one reader to the counting threads; holds at most `capacity` parts.
class TextQueue {
 public:
  explicit TextQueue(std::size_t capacity) : capacity_(capacity) {}

  void push(std::vector<std::string> lines) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return parts_.size() < capacity_; });
    parts_.push_back(std::move(lines));
    work_.notify_one();
  }

  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    work_.notify_all();
  }

  // False when there is and will be nothing more.
  bool pop(std::vector<std::string>& lines) {
    std::unique_lock lock(mutex_);
    work_.wait(lock, [&] { return closed_ || !parts_.empty(); });
    if (parts_.empty()) return false;
    lines = std::move(parts_.front());
    parts_.pop_front();
    room_.notify_one();
    return true;
  }

 private:
  std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable room_, work_;
  std::deque<std::vector<std::string>> parts_;
  bool closed_ = false;
};

void count_lines(const WordSplitter& splitter, const std::vector<std::string>& lines,
                 CountMap& counts) {
  SplitWord word;
  for (const std::string& line : lines) {
    WordSplitter::Scanner scanner(splitter, line);
    while (scanner.next(word)) {
      const auto found = counts.find(word.text);
      if (found != counts.end()) {
        ++found->second;
      } else {
        counts.emplace(word.text, 1);
      }
    }
  }
}

}  // namespace

WordCounts count_words(const std::vector<std::string>& files,
                       const WordSplitterOptions& splitter_options, int threads,
                       TextReaderOptions reader_options) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  // Documents mean nothing here, and parts of a few hundred kilobytes spread well.
  reader_options.max_document_bytes = std::size_t{1} << 18;
  TextReader reader(files, std::move(reader_options));
  const WordSplitter splitter(splitter_options);
  TextQueue queue(static_cast<std::size_t>(threads) * 4);
  std::vector<CountMap> counts(static_cast<std::size_t>(threads));
  {
    std::vector<std::jthread> workers;
    // Whatever happens to the reader, the workers must see the end before they are joined.
    struct CloseQueue {
      TextQueue& queue;
      ~CloseQueue() { queue.close(); }
    };
    const CloseQueue close_queue{queue};
    for (CountMap& own : counts) {
      workers.emplace_back([&splitter, &queue, &own] {
        std::vector<std::string> lines;
        while (queue.pop(lines)) count_lines(splitter, lines, own);
      });
    }
    std::vector<std::string> lines;
    while (reader.next_document(lines)) queue.push(std::move(lines));
    queue.close();
    for (std::jthread& worker : workers) worker.join();
  }
  CountMap& all = counts.front();
  for (std::size_t i = 1; i < counts.size(); ++i) {
    for (const auto& [word, count] : counts[i]) all[word] += count;
    counts[i].clear();
  }
  WordCounts result;
  result.text = reader.stats();
  result.words.assign(all.begin(), all.end());
  std::sort(result.words.begin(), result.words.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  for (const auto& item : result.words) result.total += item.second;
  return result;
}

}  // namespace bert
