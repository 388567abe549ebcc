// What of a training run a GPU records, once, and then repeats (Device::run_recorded).
#pragma once

namespace bert {

enum Recording : int {
  kMicroBatch,      // forward, loss and backward
  kLastMicroBatch,  // the same, with gradients setting out for the other ranks as they are ready
  kUpdate,          // of the parameters
  kEvaluation,      // forward and loss
};

}  // namespace bert
