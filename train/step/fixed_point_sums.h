// FixedPointSums: the gradients of a step added up over its micro-batches and ranks so that neither
// their order nor who computed which shows in a bit (kernels/ops.h, FixedPoint).
//
// All ranks round to the same unit. It has to be small against the gradients and yet let no sum
// overflow, so it follows from the largest |gradient| of the whole step; and since that is known
// only at the step's end, from the previous step's: 2^exponent, the power of two above it. The step
// must find its own largest within [2^(exponent - kBelow), 2^(exponent + kAbove)], or it is
// computed again with its own exponent, which all ranks know from a maximum, in which no order
// shows either.
//
// With n micro-batches in the step and L = ceil(log2 n), unit = 2^(exponent + kAbove + L - 62): the
// sums stay below 2^62 units and a half for each addend. A sum is off by n / 2 units at most, which
// is, where the exponent has not changed since the last step, 2^(2 L - 54) of the largest
// |gradient| and, at the worst that is accepted, 2^(2 L - 38). A sum of n floats is off by up to (n
// - 1) 2^-24 of the sum of their magnitudes: more, for all but gradients far below the largest.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "runtime/communicator.h"
#include "runtime/device.h"

namespace bert {

class FixedPointSums {
 public:
  static constexpr int kAbove = 8, kBelow = 16;

  // `gradients` [P] of one micro-batch after another. All arguments are kept by reference.
  FixedPointSums(Device& device, Ops& ops, Communicator& communicator, const Tensor& gradients);

  // The sums are zero. `micro_batches`: over all ranks.
  void begin(std::int64_t micro_batches);
  // Queues: the gradients are added. Can be recorded.
  void add();
  // After the last: waits, and sees what the largest was on any rank. False: the unit was no good,
  // and all is to be done again from begin(), with the same gradients; then it is.
  bool settle();
  // i64 [P], to be summed over the ranks once all is settled.
  const Tensor& sums() const { return sums_; }
  // Queues: the gradients become the sums; NaN everywhere if one on any rank was not finite. Can be
  // recorded.
  void read();

  // Of the last step whose gradients were finite and not all zero; at first, of gradients below 1.
  int exponent() const { return exponent_; }
  void set_exponent(int exponent) { exponent_ = exponent; }

 private:
  void upload();

  Device& device_;
  Ops& ops_;
  Communicator& communicator_;
  Tensor gradients_, sums_;
  DeviceBuffer sum_memory_, fixed_memory_;
  FixedPoint* on_device_;
  FixedPoint fixed_;
  int exponent_ = 0;
};

}  // namespace bert
