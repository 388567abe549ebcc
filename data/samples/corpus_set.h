// CorpusSet: the corpora that a run is trained on, one or several.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/samples/dataset_mixture.h"

namespace bert {

struct CorpusChoice {
  std::string path;                             // a folder written by prepare_corpus
  std::optional<double> weight = std::nullopt;  // as DatasetMixture::Component's
};

class CorpusSet {
 public:
  // InputError as Corpus's. At least one.
  explicit CorpusSet(const std::vector<CorpusChoice>& choices);

  const std::vector<std::shared_ptr<const Corpus>>& corpora() const { return corpora_; }
  CorpusCounts counts(Split split) const;  // of all
  // Of the training samples, a corpus each, that add up to 1; empty without weights and
  // of a single one.
  std::vector<double> shares() const;
  // What the samples are made from: the corpus's fingerprint, or one of all of them and their
  // weights.
  std::string fingerprint() const;
  // InputError unless `tokenizer` is the one that made the ids of every corpus.
  void check_tokenizer(const Tokenizer& tokenizer) const;

  // Of those corpora that have such a split: a corpus without a validation split is trained on
  // beside one that has it. InputError as PretrainingDataset's and DatasetMixture's.
  DatasetMixture mixture(Split split, const DatasetOptions& options) const;

 private:
  std::vector<CorpusChoice> choices_;
  std::vector<std::shared_ptr<const Corpus>> corpora_;
};

}  // namespace bert
