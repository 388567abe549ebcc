// How often each word occurs in text files: what vocabularies are made from and judged by.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/text_reader.h"
#include "data/word_splitter.h"

namespace bert {

struct WordCounts {
  // Normalised words, the most frequent first, equals in byte order.
  std::vector<std::pair<std::string, std::uint64_t>> words;
  std::uint64_t total = 0;  // the sum of the counts
  TextStats text;
};

// Reads and splits with `threads` threads (0: one per processor); the result does not depend on
// their number. Errors as TextReader's.
WordCounts count_words(const std::vector<std::string>& files, const WordSplitterOptions& splitter,
                       int threads = 0, TextReaderOptions reader = {});

}  // namespace bert
