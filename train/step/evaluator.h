// Evaluator: the loss over the validation split of a corpus, with masks that are the same each
// time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "data/samples/data_loader.h"
#include "data/samples/pretraining_dataset.h"
#include "model/bert_for_pretraining.h"
#include "runtime/communicator.h"
#include "train/step/device_batch.h"
#include "train/step/recordings.h"

namespace bert {

struct EvaluationResult {
  LossSums mlm, nsp;  // over every masked token, and every sequence with next-sentence prediction
  // The standard error of loss(), had other text of the kind been there: with l and c the loss and
  // the masked tokens of each of n micro-batches, which are taken as drawn independently,
  //   se^2 = n / (n - 1) sum (l - loss() c)^2 / (sum c)^2,
  // the variance of a ratio of cluster totals (Cochran 1977, section 6.3). Tokens within a
  // micro-batch, which is text that stands together, may depend on one another as they like.
  // Nothing of fewer than two micro-batches.
  std::optional<double> loss_se;

  double loss() const { return mlm.count > 0 ? mlm.loss / static_cast<double>(mlm.count) : 0.0; }
  double perplexity() const;  // exp(loss)
  // exp's derivative times loss_se.
  std::optional<double> perplexity_se() const;
  double accuracy() const;  // of the masked tokens
  double nsp_loss() const {
    return nsp.count > 0 ? nsp.loss / static_cast<double>(nsp.count) : 0.0;
  }
  double nsp_accuracy() const;
};

// Masks of an evaluation are the same in every run, so that losses compare.
inline constexpr std::uint64_t kValidationSeed = 0;

class Evaluator {
 public:
  // `memory`: of a micro-batch. With `record` a GPU records the work of one and repeats it, in all
  // evaluations. `micro_batch_sequences`: LoaderOptions'; if not 0, results are the same to the bit
  // for any number of ranks. All other arguments are kept by reference.
  Evaluator(BertForPretraining& model, Device& device, DeviceBatch& memory, bool record = true,
            std::int64_t micro_batch_sequences = 0);

  // Runs the first `max_batches` (0: all) batches of `batch_size` sequences of `dataset`, shared
  // among the ranks; sums, not means, are added up, so every masked token weighs the same. All
  // ranks return the same result.
  EvaluationResult run(DatasetMixture dataset, std::int64_t batch_size, std::int64_t max_batches,
                       Communicator& communicator);

  // As TrainingStep::forget_recordings.
  void forget_recordings() { recordings_.forget(); }

 private:
  BertForPretraining& model_;
  Device& device_;
  DeviceBatch& memory_;
  DeviceBuffer sums_;
  Recordings recordings_;
  std::int64_t micro_batch_sequences_;
};

// The cross-entropy of a model that knows only how often each token occurs among the masked tokens'
// source: the token frequencies of the corpus's training split (add-one smoothed), on the very same
// masked tokens.
EvaluationResult evaluate_unigram(const Corpus& corpus, const DatasetMixture& validation,
                                  std::int64_t batch_size, std::int64_t max_batches);

}  // namespace bert
