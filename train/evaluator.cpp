#include "train/evaluator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/device.h"
#include "train/recordings.h"

namespace bert {
namespace {

// Every rank's counts and sums, added up.
void add_over_ranks(LossSums& sums, Communicator& communicator) {
  communicator.all_reduce_sum(Tensor(&sums.loss, DType::f64, {1}));
  std::vector<std::int64_t> counts{sums.count, sums.correct};
  communicator.all_reduce_sum(counts);
  sums.count = counts[0];
  sums.correct = counts[1];
}

std::uint64_t end_step(std::int64_t max_batches) {
  return max_batches > 0 ? static_cast<std::uint64_t>(max_batches)
                         : std::numeric_limits<std::uint64_t>::max();
}

double share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

// How often each id occurs in the text of a part.
std::vector<std::int64_t> count_tokens(const TokenShard& shard, std::int32_t vocab_size) {
  constexpr std::uint64_t kBlock = 1 << 16;
  std::vector<std::int64_t> counts(static_cast<std::size_t>(vocab_size));
  std::vector<std::int32_t> ids;
  for (std::uint64_t begin = 0; begin < shard.num_tokens(); begin += kBlock) {
    ids.resize(std::min(kBlock, shard.num_tokens() - begin));
    shard.read_ids(begin, ids);
    for (const std::int32_t id : ids) ++counts[static_cast<std::size_t>(id)];
  }
  return counts;
}

}  // namespace

double EvaluationResult::perplexity() const { return std::exp(loss()); }
double EvaluationResult::accuracy() const { return share(mlm.correct, mlm.count); }
double EvaluationResult::nsp_accuracy() const { return share(nsp.correct, nsp.count); }

Evaluator::Evaluator(BertForPretraining& model, Device& device, DeviceBatch& memory, bool record)
    : model_(model),
      device_(device),
      memory_(memory),
      sums_(device, sizeof(PretrainingLoss)),
      record_(record) {}

EvaluationResult Evaluator::run(DatasetMixture dataset, std::int64_t batch_size,
                                std::int64_t max_batches, Communicator& communicator) {
  const Capacity& capacity = model_.capacity();
  LoaderOptions options;
  options.batch_size = batch_size;
  options.rank = communicator.rank();
  options.world_size = communicator.size();
  options.limits = {capacity.tokens, capacity.sequences, capacity.masked};
  options.in_order = true;
  options.end_step = end_step(max_batches);
  const bool next_sentence = dataset.any().options().next_sentence;
  DataLoader loader(std::move(dataset), options);

  device_.fill_zero(sums_.data(), sums_.bytes());
  auto* const loss = static_cast<PretrainingLoss*>(sums_.data());
  while (const std::optional<StepBatches> step = loader.next()) {
    for (const Batch& batch : step->micro_batches) {
      const PretrainingInput& input = memory_.upload(batch);
      const auto work = [&] {
        model_.forward(input, nullptr);
        model_.loss(input, loss, false);
      };
      if (record_ && !first_) {
        device_.run_recorded(kEvaluation, work);
      } else {
        work();
      }
      first_ = false;
    }
  }
  PretrainingLoss total;
  device_.copy_to_host(&total, sums_.data(), sizeof total);

  EvaluationResult result;
  result.mlm = total.mlm;
  // A model with the head, on samples that have no labels for it: that sum means nothing.
  if (model_.has_nsp() && next_sentence) result.nsp = total.nsp;
  add_over_ranks(result.mlm, communicator);
  add_over_ranks(result.nsp, communicator);
  return result;
}

EvaluationResult evaluate_unigram(const Corpus& corpus, const DatasetMixture& validation,
                                  std::int64_t batch_size, std::int64_t max_batches) {
  BERT_CHECK(batch_size > 0);
  const std::int32_t vocab_size = corpus.manifest().vocab_size;
  const TokenShard& training = corpus.shard(Part::train);
  const std::vector<std::int64_t> counts = count_tokens(training, vocab_size);
  const double total = static_cast<double>(training.num_tokens()) + static_cast<double>(vocab_size);
  const auto commonest =
      static_cast<std::int32_t>(std::max_element(counts.begin(), counts.end()) - counts.begin());

  LoaderOptions options;
  options.batch_size = batch_size;
  options.in_order = true;
  const std::uint64_t all =
      (validation.num_samples() + static_cast<std::uint64_t>(batch_size) - 1) /
      static_cast<std::uint64_t>(batch_size);
  const std::uint64_t steps = std::min(all, end_step(max_batches));

  EvaluationResult result;
  for (std::uint64_t step = 0; step < steps; ++step) {
    for (const Batch& batch : make_step(validation, options, step).micro_batches) {
      for (const std::int32_t target : batch.masked_targets) {
        const auto count = static_cast<double>(counts[static_cast<std::size_t>(target)]);
        result.mlm.loss -= std::log((count + 1.0) / total);
        result.mlm.correct += target == commonest ? 1 : 0;
        ++result.mlm.count;
      }
    }
  }
  return result;
}

}  // namespace bert
