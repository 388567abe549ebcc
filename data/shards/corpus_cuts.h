// Cut tables: where each sample of a split of a corpus begins and ends, for one kind of sampling
// and one length. Cuts partition the tokens: sample i is tokens [cuts[i].token, cuts[i + 1].token),
// so every token belongs to exactly one sample and any sample is found in O(1). They are the same
// in every epoch. prepare_corpus stores them for the sequence lengths it is given; for any other
// length they are computed in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/shards/corpus_file.h"
#include "data/shards/token_shard.h"

namespace bert {

enum class Sampling {
  // Sentences of one document are packed while they fit; one that fits into a sample is never
  // torn. A longer one is cut at words (inside a word only where that is longer than a sample), so
  // that it fills the sample it begins in; its last piece is packed with what follows.
  sentences,
  // Equal pieces of one document, wherever they begin and end; the last is shorter.
  chunks,
};

std::string_view sampling_name(Sampling sampling);
Sampling parse_sampling(std::string_view name);  // InputError naming the possible values

struct Cut {
  std::uint64_t token = 0;
  std::uint32_t sentence = 0;  // the sentence of that token
  std::uint32_t document = 0;  // the document of that token
};
static_assert(sizeof(Cut) == 16);

// How a split is cut.
struct CutRule {
  Sampling sampling = Sampling::sentences;
  std::int64_t content = 0;  // the most tokens of a sample, special ones not counted; > 0
  // The share of documents that are cut to a length drawn from [2, content], so that the model sees
  // short samples too (google-research/bert's short_seq_prob): a pure function of the document's
  // number.
  double short_probability = 0.0;
};
// InputError unless it is in [0, 1].
void check_short_probability(double probability);

// The tokens beside the text of a sample: [CLS] A [SEP], or, of a pair, [CLS] A [SEP] B [SEP].
constexpr std::int64_t special_tokens(bool pair) { return pair ? 3 : 2; }
// The most tokens of text in a sample of `sequence_length`; InputError unless that is in [8, 2^20].
std::int64_t content_tokens(std::int64_t sequence_length, bool pair);

// Calls `emit` for each cut in order, then for the final one {num_tokens, num_sentences,
// num_documents}.
void find_cuts(const TokenShard& shard, const CutRule& rule,
               const std::function<void(const Cut&)>& emit);

inline constexpr std::string_view kCutsKind = "cuts";  // of a CorpusFile
// "cuts_sentences_126.bin", or "cuts_sentences_126_short_0.1.bin".
std::string cuts_file_name(const CutRule& rule);
// Writes that file into `folder` and returns its digest.
std::uint64_t write_cuts(const std::filesystem::path& folder, const TokenShard& shard,
                         const CutRule& rule);

class CutTable {
 public:
  // Maps the file in `folder` if there is one, and computes the table otherwise.
  CutTable(const std::filesystem::path& folder, const TokenShard& shard, const CutRule& rule);

  std::uint64_t num_samples() const { return (mapped_ ? file_.size() : cuts_.size()) - 1; }
  // 0 <= i <= num_samples().
  const Cut& operator[](std::uint64_t i) const { return mapped_ ? file_[i] : cuts_[i]; }
  bool mapped() const { return mapped_; }
  std::uint64_t digest() const { return file_.file().digest(); }  // 0 if computed
  // The samples [first, last) of the document that sample i is from: O(log n).
  std::pair<std::uint64_t, std::uint64_t> samples_of_document(std::uint64_t i) const;

 private:
  bool mapped_ = false;
  CorpusArray<Cut> file_;
  std::vector<Cut> cuts_;
};

}  // namespace bert
