// CorpusWriter: writes a corpus folder (corpus.h) document by document, in bounded memory.
//
// Everything is built in a temporary folder beside the output and renamed at the end: no reader
// ever sees half a corpus, and a failure leaves nothing behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/shards/corpus.h"
#include "data/shards/token_shard.h"
#include "data/tokenization/tokenizer.h"

namespace bert {

struct CorpusWriterOptions {
  // The share of documents that goes to validation: in [0, 1). Which ones is a pure function of
  // (seed, number of the document). Above 0, both splits get at least one document: if chance gives
  // none to one of them, it gets the one that was closest.
  double validation_fraction = 0.05;
  std::uint64_t seed = 0;
  std::vector<std::int64_t> sequence_lengths = {128, 512};  // that get cut tables on disk
  double short_sequence_probability = 0.0;                  // of those tables (CutRule), in [0, 1]
};

// `output` as an absolute path. InputError if something else than an empty folder or a corpus with
// nothing beside it, which would be replaced, has that name; or if the program runs in that folder.
std::filesystem::path check_corpus_output(const std::filesystem::path& output);

class CorpusWriter {
 public:
  // InputError: `output` is none for check_corpus_output (a corpus is replaced), or an option is
  // out of range. `tokenizer` must outlive the writer. `work`: a folder on the same file system for
  // what is temporary; none: one of its own.
  CorpusWriter(std::filesystem::path output, const Tokenizer& tokenizer,
               CorpusWriterOptions options, const std::filesystem::path& work = {});
  ~CorpusWriter();
  CorpusWriter(const CorpusWriter&) = delete;
  CorpusWriter& operator=(const CorpusWriter&) = delete;

  // The documents that follow come from the source of this name.
  void begin_source(const std::string& name);
  // `unknown`: how many of its ids are [UNK]. A document without tokens is left out.
  void add(const TokenizedDocument& document, std::uint64_t unknown);
  // What was left out before it came here.
  void set_dropped(const CorpusDropped& dropped) { manifest_.dropped = dropped; }
  // What was added so far, by source.
  const std::vector<CorpusSource>& sources() const { return manifest_.sources; }
  // Writes what is missing, the manifest last, and puts the folder in its place. InputError if
  // there are too few documents to split.
  CorpusManifest commit();

 private:
  struct SplitWriter {
    std::unique_ptr<TokenShardWriter> shard;
    std::uint64_t unknown = 0;
  };
  void ensure_both_splits();
  void close_split(Split split, SplitWriter& writer);
  void write_cut_tables(Split split);
  void put_in_place();

  std::filesystem::path output_, temporary_, replaced_;  // the last: an older corpus, put aside
  const Tokenizer& tokenizer_;
  CorpusWriterOptions options_;
  CorpusManifest manifest_;
  SplitWriter splits_[2];
  std::uint64_t num_documents_ = 0;
  // The documents with the lowest and the highest hash: first to change sides.
  std::uint64_t lowest_hash_ = 0, lowest_document_ = 0, highest_hash_ = 0, highest_document_ = 0;
};

}  // namespace bert
