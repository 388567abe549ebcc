// A step whose update was refused, computed once more to say why: op by op, until a value is not
// finite, or sequence by sequence, to find the greatest losses.
#pragma once

#include <string>

#include "data/samples/data_loader.h"
#include "kernels/dropout.h"
#include "model/bert_for_pretraining.h"
#include "train/step/backend.h"
#include "train/step/device_batch.h"

namespace bert {

class StepReplay {
 public:
  // All arguments are kept by reference. The parameters must be those of before the step, as a
  // refused update leaves them; the gradients are overwritten.
  StepReplay(BertForPretraining& model, Backend& backend, DeviceBatch& memory,
             const DatasetMixture& dataset)
      : model_(model), backend_(backend), memory_(memory), dataset_(dataset) {}

  // What this rank has to say of its part of the step: the first op whose result is not finite, the
  // parameter beside it and the samples in it; otherwise, where the loss is finite, the samples
  // with the greatest losses. `masked`: of the whole step, over all ranks. Lines of text; empty
  // where there is nothing to blame.
  std::string explain(const StepBatches& batches, const DropoutKey& dropout, std::int64_t masked);

 private:
  BertForPretraining& model_;
  Backend& backend_;
  DeviceBatch& memory_;
  const DatasetMixture& dataset_;
};

}  // namespace bert
