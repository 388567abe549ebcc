// The update gate, shared by every backend: whether AdamW may change anything in a step. It is
// decided on the device, in the step itself, so that a poisoned batch harms nothing and the host
// need not be waited for.
#pragma once

#include <cstdint>
#include <limits>

namespace bert {

// In device memory; read and written by gradient_norm.
struct UpdateGate {
  double max_loss = std::numeric_limits<double>::infinity();  // of LossSums::loss
  // Not zero: an update was refused, and none is made until this is cleared.
  std::int64_t closed = 0;
};

// Whether an update is refused: an element of the gradient that is not finite, a loss that is NaN,
// infinite or above `gate->max_loss`, or an earlier refusal. Closes the gate then. `gate`: null
// without one. Losses are sums of -log p or of squares, so none is -infinity.
inline constexpr bool refuses_update(std::int64_t nonfinite, const double* loss, UpdateGate* gate) {
  if (gate == nullptr) return nonfinite != 0;
  const bool finite = *loss <= std::numeric_limits<double>::max();  // nor NaN
  const bool refused = nonfinite != 0 || gate->closed != 0 || !finite || !(*loss <= gate->max_loss);
  gate->closed = refused ? 1 : 0;
  return refused;
}

}  // namespace bert
