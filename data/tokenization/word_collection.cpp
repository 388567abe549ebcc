#include "data/tokenization/word_collection.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <queue>

#include <unistd.h>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kFileBuffer = std::size_t{1} << 18;
constexpr std::size_t kMaxRuns = 64;  // open at once

[[noreturn]] void throw_file_error(const char* what) {
  throw_runtime_error(
      "cannot {} a temporary file of word counts: {}; the environment variable TMPDIR names the "
      "folder for them",
      what, std::strerror(errno));
}

// Open, without a name, so that it is gone when it is closed, however that comes.
std::FILE* open_temporary() {
  std::error_code error;
  std::string name = std::filesystem::temp_directory_path(error).string() + "/bert_words_XXXXXX";
  const int descriptor = error ? -1 : ::mkstemp(name.data());
  if (descriptor < 0) throw_file_error("make");
  ::unlink(name.c_str());
  std::FILE* const file = ::fdopen(descriptor, "w+b");
  if (file == nullptr) throw_file_error("make");
  std::setvbuf(file, nullptr, _IOFBF, kFileBuffer);
  return file;
}

// Which counts make it among the `most`: all over `least`, and so many that are equal to it.
struct Threshold {
  std::uint64_t least = 0;
  std::size_t equals = 0;
  bool all = true;
};
Threshold threshold_of(const std::map<std::uint64_t, std::size_t>& words_of_count,
                       std::size_t most) {
  std::size_t above = 0;
  for (auto item = words_of_count.rbegin(); item != words_of_count.rend(); ++item) {
    if (above + item->second > most) return {item->first, most - above, false};
    above += item->second;
  }
  return {};
}

void sort_by_frequency(std::vector<std::pair<std::string, std::uint64_t>>& words) {
  std::sort(words.begin(), words.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
}

}  // namespace

// A run: for each word its size (u32), its count (u64) and its bytes.
class WordCollection::RunWriter {
 public:
  void add(std::string_view word, std::uint64_t count) {
    const auto size = static_cast<std::uint32_t>(word.size());
    if (std::fwrite(&size, sizeof size, 1, file_.get()) != 1 ||
        std::fwrite(&count, sizeof count, 1, file_.get()) != 1 ||
        std::fwrite(word.data(), 1, size, file_.get()) != size) {
      throw_file_error("write");
    }
  }
  File finish() {
    if (std::fflush(file_.get()) != 0) throw_file_error("write");
    return std::move(file_);
  }

 private:
  File file_{open_temporary()};
};

class WordCollection::RunReader {
 public:
  explicit RunReader(std::FILE* file) : file_(file) {
    std::rewind(file_);
    next();
  }
  bool done() const { return done_; }
  const std::string& word() const { return word_; }
  std::uint64_t count() const { return count_; }
  void next() {
    std::uint32_t size = 0;
    if (std::fread(&size, sizeof size, 1, file_) != 1) {
      if (std::ferror(file_) != 0) throw_file_error("read");
      done_ = true;
      return;
    }
    word_.resize(size);
    if (std::fread(&count_, sizeof count_, 1, file_) != 1 ||
        std::fread(word_.data(), 1, size, file_) != size) {
      throw_file_error("read");
    }
  }

 private:
  std::FILE* file_;
  std::string word_;
  std::uint64_t count_ = 0;
  bool done_ = false;
};

WordCollection::WordCollection(std::size_t memory_bytes) : memory_bytes_(memory_bytes) {}

void WordCollection::add(WordTable& words) {
  struct Item {
    std::string_view word;
    std::uint64_t count;
    std::uint32_t hash;
  };
  std::vector<Item> items;
  items.reserve(words.size());
  words.for_each([&](std::string_view word, std::uint64_t count, std::uint32_t hash) {
    items.push_back({word, count, hash});
  });
  // The shard is told by the hash's highest bits, the slot in its table by the lowest.
  const auto shard_of = [](const Item& item) { return item.hash >> (32 - kShardBits); };
  std::sort(items.begin(), items.end(),
            [&](const Item& a, const Item& b) { return shard_of(a) < shard_of(b); });
  for (auto begin = items.begin(); begin != items.end();) {
    Shard& shard = shards_[shard_of(*begin)];
    const std::lock_guard lock(shard.mutex);
    const std::size_t before = shard.table.memory_bytes();
    auto end = begin;
    for (; end != items.end() && shard_of(*end) == shard_of(*begin); ++end) {
      shard.table.add(end->word, end->count, end->hash);
    }
    used_bytes_ += shard.table.memory_bytes() - before;
    begin = end;
  }
  words.clear();
  if (used_bytes_ > memory_bytes_) {
    const std::lock_guard lock(spill_mutex_);
    if (used_bytes_ > memory_bytes_) spill();
  }
}

// What other threads add meanwhile goes to the new tables.
void WordCollection::spill() {
  std::vector<std::pair<std::string_view, std::uint64_t>> sorted;
  std::vector<WordTable> tables;
  for (Shard& shard : shards_) {
    const std::lock_guard lock(shard.mutex);
    used_bytes_ -= shard.table.memory_bytes();
    tables.push_back(std::move(shard.table));
    shard.table = WordTable();
  }
  for (const WordTable& table : tables) {
    table.for_each([&](std::string_view word, std::uint64_t count, std::uint32_t) {
      sorted.emplace_back(word, count);
    });
  }
  std::sort(sorted.begin(), sorted.end());
  RunWriter writer;
  for (const auto& [word, count] : sorted) writer.add(word, count);
  runs_.push_back(writer.finish());
  if (runs_.size() >= kMaxRuns) merge_runs();
}

void WordCollection::merge_runs() {
  RunWriter writer;
  for_each_merged([&](std::string_view word, std::uint64_t count) { writer.add(word, count); });
  runs_.clear();
  runs_.push_back(writer.finish());
}

// Every word of the runs, once, in byte order.
void WordCollection::for_each_merged(const Visit& visit) {
  std::vector<RunReader> readers;
  for (const File& run : runs_) readers.emplace_back(run.get());
  const auto later = [&](std::size_t a, std::size_t b) {
    return readers[a].word() > readers[b].word();
  };
  std::priority_queue<std::size_t, std::vector<std::size_t>, decltype(later)> queue(later);
  for (std::size_t i = 0; i < readers.size(); ++i) {
    if (!readers[i].done()) queue.push(i);
  }
  std::string word;
  while (!queue.empty()) {
    word = readers[queue.top()].word();
    std::uint64_t count = 0;
    while (!queue.empty() && readers[queue.top()].word() == word) {
      const std::size_t i = queue.top();
      queue.pop();
      count += readers[i].count();
      readers[i].next();
      if (!readers[i].done()) queue.push(i);
    }
    visit(word, count);
  }
}

WordCollection::Selection WordCollection::take(std::size_t most) {
  if (runs_.empty()) return take_from_tables(most);
  spill();
  return take_from_runs(most);
}

WordCollection::Selection WordCollection::take_from_tables(std::size_t most) {
  Selection selection;
  std::map<std::uint64_t, std::size_t> words_of_count;
  for (const Shard& shard : shards_) {
    selection.distinct += shard.table.size();
    shard.table.for_each(
        [&](std::string_view, std::uint64_t count, std::uint32_t) { ++words_of_count[count]; });
  }
  const Threshold threshold = threshold_of(words_of_count, most);
  std::vector<std::string_view> equals;
  selection.words.reserve(std::min<std::size_t>(most, selection.distinct));
  for (const Shard& shard : shards_) {
    shard.table.for_each([&](std::string_view word, std::uint64_t count, std::uint32_t) {
      if (threshold.all || count > threshold.least) {
        selection.words.emplace_back(word, count);
      } else if (count == threshold.least) {
        equals.push_back(word);
      }
    });
  }
  const auto last = equals.begin() + static_cast<std::ptrdiff_t>(threshold.equals);
  std::partial_sort(equals.begin(), last, equals.end());
  for (auto word = equals.begin(); word != last; ++word) {
    selection.words.emplace_back(*word, threshold.least);
  }
  for (Shard& shard : shards_) shard.table.release();
  sort_by_frequency(selection.words);
  return selection;
}

WordCollection::Selection WordCollection::take_from_runs(std::size_t most) {
  Selection selection;
  std::map<std::uint64_t, std::size_t> words_of_count;
  for_each_merged([&](std::string_view, std::uint64_t count) {
    ++words_of_count[count];
    ++selection.distinct;
  });
  Threshold threshold = threshold_of(words_of_count, most);
  for_each_merged([&](std::string_view word, std::uint64_t count) {
    if (threshold.all || count > threshold.least) {
      selection.words.emplace_back(word, count);
    } else if (count == threshold.least && threshold.equals > 0) {
      selection.words.emplace_back(word, count);
      --threshold.equals;
    }
  });
  runs_.clear();
  sort_by_frequency(selection.words);
  return selection;
}

}  // namespace bert
