// PretrainingDataset: the samples of one split of a corpus, each a pure function of
// (seed, epoch, sample). Nothing is stored but what Corpus maps.
//
// A sample is  [CLS] A [SEP]  or, for next sentence prediction,  [CLS] A [SEP] B [SEP]  with token
// types 0 up to the first [SEP] and 1 after it. The corpus is cut into pieces that fill a sample;
// cuts are the same in every epoch (corpus_cuts.h). Order, masks, and for next sentence prediction
// what follows are drawn anew.
//
// Next sentence prediction. Every three pieces of the corpus make four samples. Two of the pieces
// are split at a sentence, into A and the B that follows it. The third, another one in each epoch,
// is split too, and both of its halves are an A whose B is the end of a random piece of another
// document. So half of the samples have label 1, and in an epoch every token is exactly once in a
// sample as its own text, beside the random B. (A piece too short to be split is an A with a random
// B.)
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "data/samples/batch.h"
#include "data/samples/mlm_masking.h"
#include "data/shards/corpus.h"

namespace bert {

struct DatasetOptions {
  Sampling sampling = Sampling::sentences;
  std::int64_t sequence_length = 128;       // the longest sample, special tokens included; >= 8
  double short_sequence_probability = 0.0;  // CutRule::short_probability, in [0, 1]
  bool next_sentence = false;
  MaskingOptions masking;
  // 0: new masks (and random B) in every epoch. n: each sample has n forms, which the epochs use in
  // turn, as data masked beforehand has (google-research/bert's dupe_factor).
  std::int64_t static_masks = 0;
  std::uint64_t seed = 0;
};

struct SampleRef {
  std::uint64_t epoch = 0;   // whose masks and partners it has
  std::uint64_t sample = 0;  // its place in the corpus
  std::uint32_t corpus = 0;  // which of a DatasetMixture's
  bool operator==(const SampleRef&) const = default;
};

// Where the text of a sample lies in the shard: tokens [a_begin, a_end) and [b_begin, b_end).
struct SamplePlan {
  SampleRef ref;
  std::uint64_t a_begin = 0, a_end = 0, b_begin = 0, b_end = 0;
  std::int32_t next_label = 0;  // 1: B is a random one
  std::int64_t length = 0;      // tokens, special ones included
};

class PretrainingDataset {
 public:
  struct Scratch {
    std::vector<std::uint8_t> word_starts;
    std::vector<MaskRole> roles;
    MlmMasker::Scratch masking;
  };

  // InputError: an option out of range, an empty split, or next sentence prediction on one with a
  // single document.
  PretrainingDataset(std::shared_ptr<const Corpus> corpus, Split split,
                     const DatasetOptions& options);

  const Corpus& corpus() const { return *corpus_; }
  const DatasetOptions& options() const { return options_; }
  const TokenShard& shard() const { return *shard_; }
  const MlmMasker& masker() const { return masker_; }
  std::uint64_t num_samples() const {
    const std::uint64_t pieces = cuts_.num_samples();
    return options_.next_sentence ? pieces + pieces / 3 : pieces;
  }

  // Element `index` of the infinite training sequence: epoch index / num_samples(), shuffled within
  // each epoch by a keyed permutation. O(1).
  SampleRef shuffled(std::uint64_t index) const;
  // Sample `index` of the corpus with the masks of evaluation. index < num_samples().
  SampleRef in_order(std::uint64_t index) const;

  SamplePlan plan(const SampleRef& ref) const;
  // Appends the sample, masks applied. `sequence_index`: its place in the whole step. Thread-safe
  // with a Scratch per thread. InputError where the corpus turns out to be damaged.
  void append(const SamplePlan& plan, std::uint32_t sequence_index, Batch& batch,
              Scratch& scratch) const;

 private:
  // The sentences [first, last) that begin in a piece after its first token.
  std::pair<std::uint32_t, std::uint32_t> inner_sentences(std::uint64_t piece) const;
  // Where piece `piece` is split in this epoch, at a sentence where it has one; its end if it has a
  // single token.
  std::uint64_t split(std::uint64_t epoch, std::uint64_t piece) const;
  // What next sentence prediction makes of `plan.ref`.
  void plan_pair(SamplePlan& plan) const;
  // Gives the A of `piece` a B from another document.
  void add_random_next(std::uint64_t piece, SamplePlan& plan) const;
  std::uint64_t tail_of(std::uint64_t piece, std::uint64_t room) const;
  void append_text(std::uint64_t begin, std::uint64_t end, Batch& batch, Scratch& scratch) const;

  std::shared_ptr<const Corpus> corpus_;
  const TokenShard* shard_;
  DatasetOptions options_;
  std::int64_t content_;  // the most tokens of a sample that are text
  MlmMasker masker_;
  CutTable cuts_;  // the pieces
  SpecialTokens special_;
};

}  // namespace bert
