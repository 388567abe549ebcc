// WordCollection: counts of words from many threads, in bounded memory. What outgrows the bound
// goes to temporary files, sorted, which are merged in the end: the counts are exact whatever the
// bound.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenization/word_table.h"

namespace bert {

class WordCollection {
 public:
  // Tables of over `memory_bytes` go to a file of the temporary folder (TMPDIR, else /tmp), which
  // nobody sees and which vanishes with the process.
  explicit WordCollection(std::size_t memory_bytes);

  // Takes all counts of `words` over and clears it. Thread-safe. RuntimeError where a temporary
  // file cannot be written.
  void add(WordTable& words);

  struct Selection {
    std::vector<std::pair<std::string, std::uint64_t>> words;  // most frequent first, then by bytes
    std::uint64_t distinct = 0;                                // words there were
  };
  // The `most` most frequent words, of equals the first in byte order. Once, after the last add().
  Selection take(std::size_t most);

  std::size_t files() const { return runs_.size(); }

 private:
  static constexpr unsigned kShardBits = 6;
  struct Shard {
    std::mutex mutex;
    WordTable table;
  };
  struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  using File = std::unique_ptr<std::FILE, CloseFile>;
  class RunWriter;
  class RunReader;
  using Visit = std::function<void(std::string_view word, std::uint64_t count)>;

  void spill();
  void merge_runs();
  void for_each_merged(const Visit& visit);
  Selection take_from_tables(std::size_t most);
  Selection take_from_runs(std::size_t most);

  std::size_t memory_bytes_;
  std::array<Shard, std::size_t{1} << kShardBits> shards_;
  std::atomic<std::size_t> used_bytes_{0};
  std::mutex spill_mutex_;
  std::vector<File> runs_;  // sorted by word, each word once
};

}  // namespace bert
