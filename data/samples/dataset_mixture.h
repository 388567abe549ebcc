// DatasetMixture: the samples of one corpus or of several, as one sequence. Which corpus the n-th
// sample is from, and which of its samples that is, is a pure function of n, found in O(1); each
// corpus goes through epochs of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/samples/pretraining_dataset.h"

namespace bert {

class DatasetMixture {
 public:
  struct Component {
    std::shared_ptr<const PretrainingDataset> dataset;
    // The share of samples that are from here, in proportion to the others' weights; > 0. Given for
    // all or for none: without, corpora are mixed by their size, and the epochs of all end
    // together.
    std::optional<double> weight = std::nullopt;
  };

  // InputError naming the corpora: other tokenizers, weights for some only, or out of range. All
  // datasets must have the same length and kind of samples.
  explicit DatasetMixture(std::vector<Component> components);
  // A single corpus.
  DatasetMixture(std::shared_ptr<const PretrainingDataset> dataset);  // NOLINT: meant to convert

  // Different corpora draw different random numbers: the seed of component i of a run with `seed`.
  static std::uint64_t component_seed(std::uint64_t seed, std::size_t i) {
    return seed + i * 0x9E3779B97F4A7C15u;
  }

  // What holds for all of them: lengths, specials, masking.
  const PretrainingDataset& any() const { return *datasets_.front(); }
  const std::vector<std::shared_ptr<const PretrainingDataset>>& datasets() const {
    return datasets_;
  }
  const PretrainingDataset& dataset_of(const SampleRef& ref) const {
    return *datasets_[ref.corpus];
  }
  std::uint64_t num_samples() const { return num_samples_; }  // of all corpora

  // As PretrainingDataset's.
  SampleRef shuffled(std::uint64_t index) const;
  SampleRef in_order(std::uint64_t index) const;
  // Where the text of a sample is from: "data/corpus, document 17, tokens 120 to 247".
  std::string describe(const SampleRef& ref) const;
  SamplePlan plan(const SampleRef& ref) const { return dataset_of(ref).plan(ref); }
  void append(const SamplePlan& plan, std::uint32_t sequence_index, Batch& batch,
              PretrainingDataset::Scratch& scratch) const {
    dataset_of(plan.ref).append(plan, sequence_index, batch, scratch);
  }

 private:
  // Shares in parts of their sum; the corpus of element n and how many of its came before.
  using Shares = std::vector<std::uint64_t>;
  static std::pair<std::size_t, std::uint64_t> locate(const Shares& shares, std::uint64_t n);

  std::vector<std::shared_ptr<const PretrainingDataset>> datasets_;
  Shares sizes_;    // samples of each
  Shares weights_;  // of training
  std::uint64_t num_samples_ = 0;
};

}  // namespace bert
