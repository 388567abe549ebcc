// Corpus: a folder written by prepare_corpus, opened for reading.
//
//   manifest.json        what is here: counts, tokenizer, a digest of every file; written last
//   train/, validation/  a TokenShard each (token_shard.h) and cut tables (corpus_cuts.h)
//   tokenizer/           the tokenizer that made the ids
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/shards/corpus_cuts.h"
#include "data/shards/token_shard.h"
#include "data/tokenization/tokenizer.h"

namespace bert {

enum class Split { train = 0, validation = 1 };
std::string_view split_name(Split split);  // "train", "validation": also the folder's name

struct CorpusCounts {
  std::uint64_t documents = 0, sentences = 0, words = 0, tokens = 0, unknown = 0;

  // f(name, member) for each.
  template <typename Function>
  static void for_each(Function f) {
    f("documents", &CorpusCounts::documents);
    f("sentences", &CorpusCounts::sentences);
    f("words", &CorpusCounts::words);
    f("tokens", &CorpusCounts::tokens);
    f("unknown", &CorpusCounts::unknown);
  }
  CorpusCounts& operator+=(const CorpusCounts& other);
};

// How many there are of each length in tokens: element k counts lengths in [2^k, 2^(k + 1)).
struct LengthHistogram {
  std::vector<std::uint64_t> counts;
  void add(std::uint64_t length);  // length > 0
};

// What prepare_corpus was asked to leave out.
struct CorpusDropped {
  std::uint64_t duplicate_documents = 0, duplicate_lines = 0, short_documents = 0, short_lines = 0;

  template <typename Function>
  static void for_each(Function f) {
    f("duplicate_documents", &CorpusDropped::duplicate_documents);
    f("duplicate_lines", &CorpusDropped::duplicate_lines);
    f("short_documents", &CorpusDropped::short_documents);
    f("short_lines", &CorpusDropped::short_lines);
  }
};

struct CorpusSource {
  std::string name;  // as given to prepare_corpus
  CorpusCounts counts;
};

struct CorpusManifest {
  static constexpr int kFormat = 1;

  std::string tokenizer_fingerprint;
  std::int32_t vocab_size = 0;
  SpecialTokens special;
  std::uint64_t seed = 0;  // of the split
  double validation_fraction = 0;
  std::vector<std::int64_t> sequence_lengths;  // those with cut tables on disk
  std::vector<CorpusSource> sources;
  std::array<CorpusCounts, 2> splits;  // by Split
  LengthHistogram document_lengths, sentence_lengths;
  CorpusDropped dropped;
  std::map<std::string, std::uint64_t> files;  // digest of each file, by path in the folder

  std::string to_json() const;
  // InputError naming `path`: damaged, of another format, a key missing.
  static CorpusManifest parse(const std::string& text, const std::filesystem::path& path);
};

// Whether `folder` holds a file manifest.json that is of a corpus, readable or not.
bool is_corpus(const std::filesystem::path& folder);

class Corpus {
 public:
  // InputError if there is no corpus, if it is incomplete, or damaged as far as seen at once.
  // Damage elsewhere is an InputError at first touch.
  explicit Corpus(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path tokenizer_folder() const { return folder_ / "tokenizer"; }
  const CorpusManifest& manifest() const { return manifest_; }
  // xxh3, 16 hex digits, of the manifest, which holds a digest of every file: what the samples of
  // this corpus are made from.
  std::string fingerprint() const;
  const TokenShard& shard(Split split) const { return *shards_[static_cast<std::size_t>(split)]; }
  CutTable cuts(Split split, const CutRule& rule) const;

  // InputError unless `tokenizer` is the one that made the ids.
  void check_tokenizer(const Tokenizer& tokenizer) const;
  // The tokenizer in the folder, checked likewise.
  std::unique_ptr<Tokenizer> tokenizer() const;
  // Reads and checks every byte of every file. `on_file` is called before each with its path.
  void verify(const std::function<void(const std::string&)>& on_file = {}) const;

 private:
  std::filesystem::path folder_;
  CorpusManifest manifest_;
  std::array<std::unique_ptr<TokenShard>, 2> shards_;
};

}  // namespace bert
