// The work of prepare_corpus in parts that can be done in any order, and kept: a part is a bounded
// group of input files or a range of a large one, and what became of it is a folder named by a hash
// of all that decides it (tokenizer, options, the files' paths, sizes and times). A folder that has
// its part.json is finished. That is all there is to going on after a kill: the parts that the new
// arguments ask for and that are there are taken, others are made, and what is not asked for any
// more is removed.
//
//   HASH/tokens.bin words.bin sentences.bin documents.bin   a TokenShard (token_shard.h)
//   HASH/document_hashes.bin line_hashes.bin                TextHash each; the latter if asked for
//   HASH/part.json                                          counts; written last, and not of what
//                                                           standard input or a pipe gave
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/shards/token_shard.h"
#include "data/text/input_files.h"
#include "data/text/text_blocks.h"

namespace bert {

struct TextSegment {
  InputFile file;
  std::uint64_t begin = 0, end = ByteSource::kToTheEnd;  // of a large plain file
  bool whole() const { return begin == 0 && end == ByteSource::kToTheEnd; }
};

struct PartPlan {
  std::vector<TextSegment> segments;
  std::uint64_t bytes = 0;  // of them; 0 if unknown
  bool keep = true;         // false: of standard input or a pipe, never the same again
  std::string key;          // JSON
  std::string folder_name() const;
};

// Cuts `inputs` into parts of about `part_bytes`.
std::vector<PartPlan> plan_parts(const Inputs& inputs, const TextParsingOptions& options,
                                 const std::string& tokenizer_fingerprint, bool line_hashes,
                                 std::uint64_t part_bytes);
// A share of the whole that is worth its overhead, and whose loss is no great pity.
std::uint64_t default_part_bytes(std::uint64_t input_bytes);

using WordTally = std::unordered_map<std::string, std::uint64_t>;
// Adds counts; where there are too many words, those seen least are forgotten.
void merge_tally(const WordTally& from, WordTally& into);
// The first `limit`, most frequent first, equals in byte order.
std::vector<std::pair<std::string, std::uint64_t>> commonest_words(const WordTally& words,
                                                                   std::size_t limit);

// What is known of a finished part.
struct PartSummary {
  TextStats text;
  std::vector<std::uint64_t> segment_documents;  // documents of each segment, with tokens in them
  std::uint64_t documents = 0, sentences = 0, tokens = 0;
  std::vector<std::pair<std::string, std::uint64_t>> unknown_words;
  std::map<std::string, std::uint64_t> digests;  // of the files
};

void save_part_summary(const std::filesystem::path& folder, const PartPlan& plan,
                       const PartSummary& summary);
// False if there is no finished part of this plan in `folder`, or a damaged one.
bool load_part_summary(const std::filesystem::path& folder, const PartPlan& plan,
                       std::int32_t vocab_size, PartSummary& summary);

}  // namespace bert
