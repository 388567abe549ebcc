// Tokenizes parts of the input (corpus_parts.h) on several threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "data/shards/corpus_parts.h"
#include "data/tokenization/tokenizer.h"

namespace bert {

struct PartJob {
  const PartPlan* plan = nullptr;
  std::filesystem::path folder;    // made anew
  PartSummary* summary = nullptr;  // filled
};

struct PartMakerOptions {
  TextParsingOptions text;
  int threads = 1;
  bool line_hashes = false;
  std::uint64_t max_document_bytes = std::uint64_t{64} << 20;  // longer ones are cut between lines
  // Called by one thread at a time with what has been done by this call: bytes of the input read,
  // documents and tokens written. What it throws ends the work.
  std::function<void(std::uint64_t bytes, std::uint64_t documents, std::uint64_t tokens)> progress;
};

// A thread opens a part, reads it block by block and hands the blocks to whoever is free, itself
// included; a thread that finds no part to open helps those that did. So many files are read (and
// decompressed) at once, a single one is still tokenized by all threads, and there are never more
// than `threads` at work. Memory: 64 MiB of text on its way and what becomes of it (about 3 times
// as much), at least a block a thread, and 6 MiB of buffers for each part that is open.
//
// Rethrows what went wrong first in the order of `jobs`, of what went wrong before all threads
// stopped; parts that were finished by then stay.
void make_parts(const Tokenizer& tokenizer, const PartMakerOptions& options,
                const std::vector<PartJob>& jobs);

}  // namespace bert
