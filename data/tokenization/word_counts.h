// How often each word occurs in text files: what vocabularies are made from and judged by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/text/text_reader.h"
#include "data/tokenization/word_splitter.h"

namespace bert {

struct WordCountOptions {
  int threads = 0;  // that split and count; 0: one per processor
  // Bounds on memory. Counts beyond the first go to temporary files (see word_collection.h) and
  // stay exact; of the different words the most frequent are returned, equals in byte order; a
  // longer word is counted in `too_long` alone.
  std::size_t memory_bytes = std::size_t{384} << 20;
  std::size_t max_words = 4'000'000;
  std::size_t max_word_bytes = 1024;
  TextReaderOptions reader = {};
};

struct WordCounts {
  // Normalised words, the most frequent first, equals in byte order.
  std::vector<std::pair<std::string, std::uint64_t>> words;
  std::uint64_t total = 0;     // occurrences of words, those that were left out and too long too
  std::uint64_t distinct = 0;  // different words, those that were left out too
  std::uint64_t left_out = 0;  // occurrences of words beyond max_words
  std::uint64_t too_long = 0;  // occurrences of words over max_word_bytes
  TextStats text;
};

// The result depends neither on the number of threads nor on memory_bytes. Errors as TextReader's;
// RuntimeError where a temporary file cannot be written.
WordCounts count_words(const std::vector<std::string>& files, const WordSplitterOptions& splitter,
                       const WordCountOptions& options = {});

}  // namespace bert
