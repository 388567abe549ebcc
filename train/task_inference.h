// What a fine-tuned model says of sequences: for evaluation, for predict, for the library.
#pragma once

#include <vector>

#include "model/bert_for_task.h"
#include "train/device_batch.h"
#include "train/task.h"

namespace bert {

// The outputs for every sequence of `batches`, in their order, no dropout; TaskOutputs says what
// they are. `sums`, if given, are added to: the losses, which need labels. `model` and `memory`
// must have room for each batch.
TaskOutputs task_outputs(BertForTask& model, Device& device, DeviceBatch& memory,
                         const std::vector<Batch>& batches, LossSums* sums = nullptr);

}  // namespace bert
