#include "data/samples/dataset_mixture.h"

#include <cmath>
#include <numeric>

#include "runtime/error.h"

namespace bert {

namespace {

std::string folder_of(const PretrainingDataset& dataset) {
  return dataset.corpus().folder().string();
}

// Weights as whole numbers that add up to about 2^32, none of them 0.
std::vector<std::uint64_t> whole_weights(const std::vector<DatasetMixture::Component>& components) {
  double sum = 0;
  for (const auto& component : components) {
    if (!component.weight) {
      throw_input_error(
          "{}: this corpus has no weight while others do; give every corpus one, or none",
          folder_of(*component.dataset));
    }
    if (!(*component.weight > 0 && std::isfinite(*component.weight))) {
      throw_input_error("{}: the weight of this corpus is {}, expected a number above 0",
                        folder_of(*component.dataset), *component.weight);
    }
    sum += *component.weight;
  }
  std::vector<std::uint64_t> weights;
  for (const auto& component : components) {
    weights.push_back(static_cast<std::uint64_t>(std::ceil(*component.weight / sum * 0x1p32)));
  }
  return weights;
}

}  // namespace

DatasetMixture::DatasetMixture(std::vector<Component> components) {
  BERT_CHECK(!components.empty());
  bool weighted = false;
  for (const Component& component : components) {
    datasets_.push_back(component.dataset);
    sizes_.push_back(component.dataset->num_samples());
    weighted = weighted || component.weight.has_value();
    const DatasetOptions &options = component.dataset->options(), &first = any().options();
    BERT_CHECK(options.sequence_length == first.sequence_length &&
               options.next_sentence == first.next_sentence);
    if (component.dataset->corpus().manifest().tokenizer_fingerprint !=
        any().corpus().manifest().tokenizer_fingerprint) {
      throw_input_error(
          "{}: made with another tokenizer than {}; corpora that are mixed must share one",
          folder_of(*component.dataset), folder_of(any()));
    }
  }
  weights_ = weighted ? whole_weights(components) : sizes_;
  num_samples_ = std::accumulate(sizes_.begin(), sizes_.end(), std::uint64_t{0});
}

DatasetMixture::DatasetMixture(std::shared_ptr<const PretrainingDataset> dataset)
    : DatasetMixture(std::vector<Component>{{std::move(dataset)}}) {}

// Corpora are set apart one after the other. Of the first n elements, floor(n * share / sum) are
// from the first corpus, so they are spread evenly; of the rest, the second has its part, and so
// on. Over as many elements as the shares add up to, each corpus has exactly its share.
std::pair<std::size_t, std::uint64_t> DatasetMixture::locate(const Shares& shares,
                                                             std::uint64_t n) {
  __extension__ typedef unsigned __int128 Wide;  // NOLINT: clang knows no __extension__ using
  std::uint64_t sum = std::accumulate(shares.begin(), shares.end(), std::uint64_t{0});
  for (std::size_t corpus = 0;; ++corpus) {
    const auto before = static_cast<std::uint64_t>(Wide{n} * shares[corpus] / sum);
    const auto with = static_cast<std::uint64_t>((Wide{n} + 1) * shares[corpus] / sum);
    if (with > before) return {corpus, before};
    n -= before;
    sum -= shares[corpus];
  }
}

SampleRef DatasetMixture::shuffled(std::uint64_t index) const {
  const auto [corpus, place] = locate(weights_, index);
  SampleRef ref = datasets_[corpus]->shuffled(place);
  ref.corpus = static_cast<std::uint32_t>(corpus);
  return ref;
}

SampleRef DatasetMixture::in_order(std::uint64_t index) const {
  BERT_CHECK(index < num_samples());
  const auto [corpus, place] = locate(sizes_, index);
  SampleRef ref = datasets_[corpus]->in_order(place);
  ref.corpus = static_cast<std::uint32_t>(corpus);
  return ref;
}

std::string DatasetMixture::describe(const SampleRef& ref) const {
  const PretrainingDataset& dataset = dataset_of(ref);
  const TokenShard& shard = dataset.shard();
  const SamplePlan plan = dataset.plan(ref);
  const auto place = [&](std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t document = shard.document_of(begin);
    const std::uint64_t first = shard.sentence_begin(shard.document_begin(document));
    return fmt::format("document {}, tokens {} to {}", document, begin - first, end - 1 - first);
  };
  std::string text = dataset.corpus().folder().string() + ", " + place(plan.a_begin, plan.a_end);
  if (plan.b_end > plan.b_begin) text += " and " + place(plan.b_begin, plan.b_end);
  return text;
}

}  // namespace bert
