// Raw text to a corpus, on several threads, in bounded memory. The result depends on nothing but
// the input, the tokenizer and the options: not on threads, nor on how often the work was
// interrupted.
//
// First each part of the input (corpus_parts.h) is tokenized by itself, several at once; then the
// parts are merged in the order of the input, which decides what is a duplicate and what goes to
// validation. What is finished lies in OUTPUT.partial until the corpus is in its place; the same
// call again goes on from there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "data/shards/corpus_writer.h"
#include "data/text/text_blocks.h"

namespace bert {

enum class DropDuplicates { none, documents, lines };

struct PreparationProgress {
  enum class Phase { tokenizing, comparing, merging, finishing } phase = Phase::tokenizing;
  // Tokenizing: bytes of the input (compressed), of which `resumed` were done by an earlier run;
  // total 0: unknown. Comparing: passes. Merging: tokens.
  std::uint64_t done = 0, total = 0, resumed = 0;
  std::uint64_t documents = 0, tokens = 0;  // so far in this phase
};

struct PreparationOptions {
  std::vector<std::string> files;  // as expand_inputs takes them
  std::filesystem::path output;
  CorpusWriterOptions writer;
  TextParsingOptions text;
  int threads = 1;  // >= 1
  // Of documents, or of lines anywhere in the input, that are the same byte for byte, only the
  // first is kept (by a 128-bit hash).
  DropDuplicates drop_duplicates = DropDuplicates::none;
  std::uint64_t min_document_words = 0;  // shorter documents are left out
  double max_unknown_rate = 1.0;         // more [UNK] among the words is an InputError
  // Called now and then, by one thread at a time. What it throws ends the work.
  std::function<void(const PreparationProgress&)> progress;

  std::uint64_t part_bytes = 0;                                // 0: default_part_bytes()
  std::uint64_t max_document_bytes = std::uint64_t{64} << 20;  // longer ones are cut between lines
  std::size_t duplicates_budget = std::size_t{256} << 20;  // memory to compare hashes in, in bytes
};

struct PreparationReport {
  CorpusManifest manifest;
  TextStats text;  // summed over the files
  CorpusCounts counts;
  std::uint64_t input_bytes = 0;  // of the files (compressed); 0: unknown
  std::uint64_t parts = 0, parts_resumed = 0, parts_outdated = 0;
  std::uint64_t left_out_files = 0;  // of folders: not named like text, or empty
  std::string first_left_out_file;
  std::vector<std::string> warnings;
  // The commonest words that became [UNK] and how often, most frequent first, at most ten. Counts
  // of rare words may be too low: their number is bounded.
  std::vector<std::pair<std::string, std::uint64_t>> unknown_words;
};

// OUTPUT.partial: where unfinished work is kept.
std::filesystem::path partial_folder(const std::filesystem::path& output);

// InputError: an input file, the output folder or an option is at fault. RuntimeError: another
// process is preparing the same corpus.
PreparationReport prepare_corpus(const Tokenizer& tokenizer, const PreparationOptions& options);

}  // namespace bert
