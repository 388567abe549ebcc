// Raw text to a corpus: reads files, tokenizes on several threads, writes in the order of the
// input. The result does not depend on the number of threads, and memory is bounded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "data/corpus_writer.h"
#include "data/text_reader.h"

namespace bert {

struct PreparationOptions {
  std::vector<std::string> files;  // as TextReader takes them
  std::filesystem::path output;
  CorpusWriterOptions writer;
  int threads = 1;  // that tokenize, >= 1
  bool refuse_invalid_utf8 = false;
  // Called now and then: bytes of the files read (compressed) and in all (0 if unknown), and the
  // tokens written so far.
  std::function<void(std::uint64_t bytes_read, std::uint64_t bytes_total, std::uint64_t tokens)>
      progress;
};

struct PreparationReport {
  CorpusManifest manifest;
  TextStats text;  // summed over the files
  CorpusCounts counts;
  // The commonest words that became [UNK] and how often, most frequent first, at most ten. Counts
  // of rare words may be too low: their number is bounded.
  std::vector<std::pair<std::string, std::uint64_t>> unknown_words;
};

// InputError: an input file, the output folder or an option is at fault.
PreparationReport prepare_corpus(const Tokenizer& tokenizer, const PreparationOptions& options);

}  // namespace bert
