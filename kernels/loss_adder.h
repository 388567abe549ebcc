// Adding to LossSums on the host.
#pragma once

#include <cmath>

#include "kernels/ops.h"

namespace bert {

// Adds the losses of one op to `sums`, in the order of the calls. When it goes, what was added is
// rounded to `loss_unit` (CrossEntropy).
class LossAdder {
 public:
  LossAdder(LossSums& sums, double loss_unit) : sums_(sums), unit_(loss_unit), before_(sums.loss) {
    if (unit_ > 0.0) sums_.loss = 0.0;
  }
  ~LossAdder() {
    if (unit_ > 0.0) sums_.loss = before_ + std::nearbyint(sums_.loss / unit_) * unit_;
  }
  LossAdder(const LossAdder&) = delete;
  LossAdder& operator=(const LossAdder&) = delete;

  void add(double loss, bool correct) {
    sums_.loss += loss;
    sums_.count += 1;
    sums_.correct += correct ? 1 : 0;
  }

 private:
  LossSums& sums_;
  double unit_, before_;
};

}  // namespace bert
