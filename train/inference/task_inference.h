// What a fine-tuned model says of sequences: for evaluation, for predict, for the library.
#pragma once

#include <vector>

#include "model/bert_for_task.h"
#include "runtime/communicator.h"
#include "train/step/device_batch.h"
#include "train/tasks/task.h"

namespace bert {

// InputError when a model of `config` cannot read them all: more kinds of segments than it has, or
// more tokens than it has positions.
void check_fits(const std::vector<TaskSequence>& sequences, const BertConfig& config);

// The outputs for every sequence of `batches`, in their order, no dropout; TaskOutputs says what
// they are. `loss`, if given, is in device memory, and added to: the losses, which need labels;
// `loss_unit`: see CrossEntropy. `model` and `memory` must have room for each batch.
TaskOutputs task_outputs(BertForTask& model, Device& device, DeviceBatch& memory,
                         const std::vector<Batch>& batches, ModelLoss* loss = nullptr,
                         double loss_unit = 0.0);

// The outputs of all ranks, in their order, on each of them; `sums` become those of all.
TaskOutputs gather_outputs(TaskOutputs own, LossSums& sums, Communicator& communicator);

}  // namespace bert
