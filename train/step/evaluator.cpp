#include "train/step/evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "runtime/device.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
namespace {

// What one micro-batch adds to an evaluation; whole numbers, too, as f64.
struct MicroBatchSums {
  double first_sequence = 0.0;  // its place in the whole evaluation
  double mlm_loss = 0.0, masked = 0.0, nsp_loss = 0.0;
};

// Those of all ranks, in the order of the text: so that what is added up from them is the same on
// every rank, and for every number of ranks that cut the text into the same micro-batches.
std::vector<MicroBatchSums> gather(const std::vector<MicroBatchSums>& own,
                                   Communicator& communicator) {
  const auto rank = static_cast<std::size_t>(communicator.rank());
  std::vector<std::int64_t> counts(static_cast<std::size_t>(communicator.size()));
  counts[rank] = static_cast<std::int64_t>(own.size());
  communicator.all_reduce_sum(counts);
  const auto before =
      std::accumulate(counts.begin(), counts.begin() + communicator.rank(), std::int64_t{0});
  const auto total = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  std::vector<MicroBatchSums> all(static_cast<std::size_t>(total));
  std::copy(own.begin(), own.end(), all.begin() + before);
  // Every place is one rank's, and zero is added to it.
  static_assert(sizeof(MicroBatchSums) == 4 * sizeof(double));
  communicator.all_reduce_sum(Tensor(all.data(), DType::f64, {4 * total}));
  std::sort(all.begin(), all.end(), [](const MicroBatchSums& a, const MicroBatchSums& b) {
    return a.first_sequence < b.first_sequence;
  });
  return all;
}

// The loss of masked tokens, and its standard error, from what each micro-batch lost.
void add_up(const std::vector<MicroBatchSums>& micro_batches, EvaluationResult& result) {
  double masked = 0.0;
  for (const MicroBatchSums& one : micro_batches) {
    result.mlm.loss += one.mlm_loss;
    masked += one.masked;
  }
  const auto n = static_cast<double>(micro_batches.size());
  if (n < 2.0 || masked == 0.0) return;
  const double mean = result.mlm.loss / masked;
  double squares = 0.0;
  for (const MicroBatchSums& one : micro_batches) {
    const double residual = one.mlm_loss - mean * one.masked;
    squares += residual * residual;
  }
  result.loss_se = std::sqrt(n / (n - 1.0) * squares) / masked;
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
std::optional<double> EvaluationResult::perplexity_se() const {
  if (!loss_se) return std::nullopt;
  return perplexity() * *loss_se;
}
double EvaluationResult::accuracy() const { return share(mlm.correct, mlm.count); }
double EvaluationResult::nsp_accuracy() const { return share(nsp.correct, nsp.count); }

Evaluator::Evaluator(BertForPretraining& model, Device& device, DeviceBatch& memory, bool record,
                     std::int64_t micro_batch_sequences)
    : model_(model),
      device_(device),
      memory_(memory),
      sums_(device, sizeof(ModelLoss)),
      recordings_(device, record),
      micro_batch_sequences_(micro_batch_sequences) {}

EvaluationResult Evaluator::run(DatasetMixture dataset, std::int64_t batch_size,
                                std::int64_t max_batches, Communicator& communicator) {
  LoaderOptions options;
  options.batch_size = batch_size;
  options.rank = communicator.rank();
  options.world_size = communicator.size();
  options.limits = limits_of(model_.capacity());
  options.micro_batch_sequences = micro_batch_sequences_;
  options.in_order = true;
  options.end_step = end_step(max_batches);
  const bool next_sentence = dataset.any().options().next_sentence;
  DataLoader loader(std::move(dataset), options);

  // A model with the head, on samples that have no labels for it: that sum means nothing.
  const bool with_nsp = model_.has_nsp() && next_sentence;
  EvaluationResult result;
  std::vector<MicroBatchSums> own;
  // A GPU computes one micro-batch while the next is queued.
  std::unique_ptr<PendingRead> queued;
  const auto settle = [&] {
    if (!queued) return;
    ModelLoss sums;
    std::memcpy(&sums, queued->wait(), sizeof sums);
    own.back().mlm_loss = sums.main.loss;
    own.back().masked = static_cast<double>(sums.main.count);
    result.mlm.count += sums.main.count;
    result.mlm.correct += sums.main.correct;
    if (!with_nsp) return;
    own.back().nsp_loss = sums.nsp.loss;
    result.nsp.count += sums.nsp.count;
    result.nsp.correct += sums.nsp.correct;
  };
  auto* const loss = static_cast<ModelLoss*>(sums_.data());
  while (const std::optional<StepBatches> step = loader.next()) {
    for (const Batch& batch : step->micro_batches) {
      const ModelInput& input = memory_.upload(batch);
      device_.fill_zero(sums_.data(), sums_.bytes());
      recordings_.run(kEvaluation, memory_.layout(), [&] {
        model_.forward(input, nullptr);
        model_.loss(input, loss, false);
      });
      auto now = device_.read_later(sums_.data(), sums_.bytes());
      settle();
      queued = std::move(now);
      own.emplace_back().first_sequence =
          static_cast<double>(step->step) * static_cast<double>(batch_size) +
          static_cast<double>(batch.sequence_index.front());
    }
  }
  settle();

  std::vector<std::int64_t> counts{result.mlm.count, result.mlm.correct, result.nsp.count,
                                   result.nsp.correct};
  communicator.all_reduce_sum(counts);
  result.mlm = {.count = counts[0], .correct = counts[1]};
  result.nsp = {.count = counts[2], .correct = counts[3]};
  const std::vector<MicroBatchSums> all = gather(own, communicator);
  add_up(all, result);
  for (const MicroBatchSums& one : all) result.nsp.loss += one.nsp_loss;
  return result;
}

EvaluationResult evaluate_unigram(const Corpus& corpus, const DatasetMixture& validation,
                                  std::int64_t batch_size, std::int64_t max_batches) {
  BERT_CHECK(batch_size > 0);
  const std::int32_t vocab_size = corpus.manifest().vocab_size;
  const TokenShard& training = corpus.shard(Split::train);
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
  std::vector<MicroBatchSums> batches;
  for (std::uint64_t step = 0; step < steps; ++step) {
    for (const Batch& batch : make_step(validation, options, step).micro_batches) {
      MicroBatchSums sums;
      for (const std::int32_t target : batch.masked_targets) {
        const auto count = static_cast<double>(counts[static_cast<std::size_t>(target)]);
        sums.mlm_loss -= std::log((count + 1.0) / total);
        result.mlm.correct += target == commonest ? 1 : 0;
        ++result.mlm.count;
      }
      sums.masked = static_cast<double>(batch.num_masked());
      batches.push_back(sums);
    }
  }
  add_up(batches, result);
  return result;
}

}  // namespace bert
