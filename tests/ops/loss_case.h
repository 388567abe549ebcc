// What the cases of the losses share: their scale, the sums, and that the loss of a case is the
// scale times the sum of the op's own losses.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "tests/support/op_case.h"

namespace bert::test {

inline constexpr double kLossScale = 1.0 / 13.0;

// Adds loss_scale and sums.
inline void add_loss(OpCase& c) {
  std::vector<double> scale_bytes;
  for (const std::byte b : std::as_bytes(std::span(&kLossScale, 1))) {
    scale_bytes.push_back(std::to_integer<int>(b));
  }
  c.add({.name = "loss_scale", .kind = Kind::bytes, .shape = {8}, .values = scale_bytes});
  c.add({.name = "sums",
         .role = Role::state,
         .kind = Kind::bytes,
         .shape = {sizeof(LossSums)},
         .values = std::vector<double>(sizeof(LossSums), 0.0)});
}
inline LossSums* sums_of(const BoundCase& b) { return static_cast<LossSums*>(b("sums").raw()); }

// The losses of the op are its output `losses`.
inline void add_loss_upstream(OpCase& c, const std::string& losses) {
  CaseTensor& upstream = c.upstream("upstream", losses);
  for (std::size_t i = 0; i < upstream.values.size(); ++i) {
    upstream.values[i] = upstream.is_valid(static_cast<std::int64_t>(i)) ? kLossScale : 0.0;
  }
}

}  // namespace bert::test
