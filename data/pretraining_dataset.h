// PretrainingDataset: the samples of one part of a corpus, each a pure function of
// (seed, epoch, sample). Nothing is stored but what Corpus maps.
//
// A sample is  [CLS] A [SEP]  or, for next sentence prediction,  [CLS] A [SEP] B [SEP]  with token
// types 0 up to the first [SEP] and 1 after it. Cuts are the same in every epoch (corpus_cuts.h);
// order, masks, and for next sentence prediction the place where a sample splits into A and B and
// whether B is a random one, are drawn anew.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/batch.h"
#include "data/corpus.h"
#include "data/mlm_masking.h"

namespace bert {

struct DatasetOptions {
  Sampling sampling = Sampling::sentences;
  std::int64_t sequence_length = 128;  // the longest sample, special tokens included; >= 8
  bool next_sentence = false;
  MaskingOptions masking;
  std::uint64_t seed = 0;
};

struct SampleRef {
  std::uint64_t epoch = 0;
  std::uint64_t sample = 0;  // its place in the corpus
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

  // InputError: an option out of range, an empty part, or next sentence prediction on a part with a
  // single document.
  PretrainingDataset(std::shared_ptr<const Corpus> corpus, Part part,
                     const DatasetOptions& options);

  const Corpus& corpus() const { return *corpus_; }
  const DatasetOptions& options() const { return options_; }
  const TokenShard& shard() const { return *shard_; }
  const MlmMasker& masker() const { return masker_; }
  std::uint64_t num_samples() const { return cuts_.num_samples(); }

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
  // Splits a sample's tokens [begin, end) into two, at a sentence where it has one.
  std::uint64_t split(const SampleRef& ref) const;
  void plan_next_sentence(SamplePlan& plan) const;
  void append_text(std::uint64_t begin, std::uint64_t end, Batch& batch, Scratch& scratch) const;

  std::shared_ptr<const Corpus> corpus_;
  const TokenShard* shard_;
  DatasetOptions options_;
  std::int64_t content_;  // the most tokens of a sample that are text
  MlmMasker masker_;
  CutTable cuts_;
  SpecialTokens special_;
};

}  // namespace bert
