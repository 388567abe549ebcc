#include "data/samples/corpus_set.h"

#include "runtime/error.h"

namespace bert {
namespace {

const CorpusCounts& counts_of(const Corpus& corpus, Split split) {
  return corpus.manifest().splits[static_cast<std::size_t>(split)];
}

}  // namespace

CorpusSet::CorpusSet(const std::vector<CorpusChoice>& choices) : choices_(choices) {
  BERT_CHECK(!choices.empty());
  for (const CorpusChoice& choice : choices) {
    corpora_.push_back(std::make_shared<const Corpus>(choice.path));
  }
}

CorpusCounts CorpusSet::counts(Split split) const {
  CorpusCounts sum;
  for (const auto& corpus : corpora_) sum += counts_of(*corpus, split);
  return sum;
}

std::vector<double> CorpusSet::shares() const {
  if (corpora_.size() == 1) return {};
  std::vector<double> shares;
  double sum = 0.0;
  for (std::size_t i = 0; i < corpora_.size(); ++i) {
    if (!choices_[i].weight) return {};
    const bool trained_on = counts_of(*corpora_[i], Split::train).documents > 0;
    shares.push_back(trained_on ? *choices_[i].weight : 0.0);
    sum += shares.back();
  }
  for (double& share : shares) share /= sum;
  return shares;
}

std::string CorpusSet::fingerprint() const {
  if (corpora_.size() == 1) return corpora_.front()->fingerprint();
  std::string all;
  for (std::size_t i = 0; i < corpora_.size(); ++i) {
    all += corpora_[i]->fingerprint();
    all += choices_[i].weight ? fmt::format(" {}\n", *choices_[i].weight) : "\n";
  }
  return hex64(hash_bytes(all.data(), all.size()));
}

void CorpusSet::check_tokenizer(const Tokenizer& tokenizer) const {
  for (const auto& corpus : corpora_) corpus->check_tokenizer(tokenizer);
}

DatasetMixture CorpusSet::mixture(Split split, const DatasetOptions& options) const {
  std::vector<DatasetMixture::Component> components;
  const bool some = counts(split).documents > 0;
  for (std::size_t i = 0; i < corpora_.size(); ++i) {
    if (some && counts_of(*corpora_[i], split).documents == 0) continue;
    DatasetOptions own = options;
    own.seed = DatasetMixture::component_seed(options.seed, i);
    components.push_back(
        {std::make_shared<const PretrainingDataset>(corpora_[i], split, own), choices_[i].weight});
  }
  return DatasetMixture(std::move(components));
}

}  // namespace bert
