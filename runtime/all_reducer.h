// AllReducer: sums device memory over the ranks of a job, piece by piece, while other work goes on.
#pragma once

#include <memory>
#include <string>

#include "runtime/communicator.h"
#include "runtime/tensor.h"

namespace bert {

class AllReducer {
 public:
  virtual ~AllReducer() = default;
  virtual std::string name() const = 0;  // "NCCL 2.28.9, f32"

  // Sums `piece` in place over all ranks, after the work queued so far and beside what is queued
  // from now on, which must leave the piece alone. Every rank starts the same pieces in the same
  // order. They are of the dtype that make_... was given (f32 where that is bf16), or a few f64.
  virtual void start(const Tensor& piece) = 0;
  // Work queued from now on sees the sums of all pieces started.
  virtual void finish() = 0;
};

// For host memory: the pieces of `whole` are summed by one all_reduce_sum in finish(), others at
// once.
std::unique_ptr<AllReducer> make_host_all_reducer(Communicator& communicator, const Tensor& whole);

}  // namespace bert
