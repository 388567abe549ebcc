// ProductOps: TimedOps that remember the linear layers' products they watched, so that the very
// same can be run again without anything else.
#pragma once

#include <vector>

#include "train/profile/timed_ops.h"

namespace bert::bench {

class ProductOps final : public TimedOps {
 public:
  using TimedOps::TimedOps;

  // Starts again at nothing.
  void watch_anew();
  // Of all linear layers, on as many rows as their tensors have.
  double product_flop() const;
  // Runs the linear layers again, one after another. What they write is overwritten, gradients
  // included.
  void run_products();

  void linear_forward(const LinearForward& op) override;
  void linear_backward(const LinearBackward& op) override;

 private:
  std::vector<LinearForward> forward_products_;
  std::vector<LinearBackward> backward_products_;
};

}  // namespace bert::bench
