// What a dataset really gives: counted over its samples, to be compared with what was asked for.
#pragma once

#include <cstdint>
#include <string>

#include "data/samples/pretraining_dataset.h"

namespace bert {

struct LengthStatistics {  // of samples, in tokens
  std::int64_t shortest = 0, tenth = 0, median = 0, ninetieth = 0, longest = 0;
  double mean = 0;
};

struct DatasetAudit {
  std::uint64_t samples = 0;
  std::uint64_t tokens = 0;          // special ones included
  std::uint64_t unknown = 0;         // [UNK] among them, before masking
  std::uint64_t padding = 0;         // [PAD] among them, before masking: none
  std::uint64_t predicted = 0;       // chosen by the masking; of these became
  std::uint64_t masked = 0;          //   [MASK]
  std::uint64_t replaced = 0;        //   another id
  std::uint64_t kept = 0;            //   what they were
  std::uint64_t words = 0;           // with at least one chosen piece; of these have
  std::uint64_t whole_words = 0;     //   every piece chosen
  std::uint64_t without_target = 0;  // samples with nothing to predict
  std::uint64_t random_next = 0;     // samples with next sentence label 1
  LengthStatistics lengths;
};

// Over the first `max_samples` of epoch 0, or all of them if there are fewer.
DatasetAudit audit_dataset(const PretrainingDataset& dataset, std::uint64_t max_samples);

// One sample as text. What is to be predicted stands in brackets: "[table]" is hidden behind
// [MASK], "[table=>fish]" replaced, "[table=]" left as it is.
std::string describe_sample(const PretrainingDataset& dataset, const Tokenizer& tokenizer,
                            const SampleRef& ref);

}  // namespace bert
