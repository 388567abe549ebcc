// Softmax of a row of numbers, and its cross-entropy.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "kernels/cpu/vector_math.h"

namespace bert::cpu {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct Largest {
  float value;
  std::int32_t index;  // the first of equals
};

inline Largest largest(const float* row, std::int64_t n) {
  F32 best = splat(kMinusInfinity);
  I32 best_index = lane_numbers();
  I32 index = lane_numbers();
  for_lanes(0, n, [&](std::int64_t c, auto lanes) {
    const F32 v = keep_lanes(load(row + c, lanes), lanes, kMinusInfinity);
    const auto better = v > best;
    best = better ? v : best;
    best_index = better ? index : best_index;
    index += splat(std::int32_t{kLanes});
  });
  Largest result{kMinusInfinity, 0};
  for (int i = 0; i < kLanes; ++i) {
    if (best[i] > result.value || (best[i] == result.value && best_index[i] < result.index)) {
      result = {best[i], best_index[i]};
    }
  }
  return result;
}

// sum of e^(x - shift); x is overwritten with e^(x - shift) when kStore.
template <bool kStore>
inline float sum_exp(float* row, std::int64_t n, float shift) {
  F32 total{};
  for_lanes(0, n, [&](std::int64_t c, auto lanes) {
    const F32 e = exp_nonpositive(load(row + c, lanes) - splat(shift));
    if constexpr (kStore) store(row + c, e, lanes);
    total += keep_lanes(e, lanes);
  });
  return sum(total);
}

struct RowLoss {
  float loss;
  bool correct;  // the target is the first of the largest
};

// -log softmax(row)[target]. With a scale the row is overwritten with that times the gradient,
// softmax(row) - onehot(target).
inline RowLoss row_cross_entropy(float* row, std::int64_t n, std::int32_t target,
                                 std::optional<float> scale) {
  const Largest top = largest(row, n);
  const float target_logit = row[target];
  const float total = scale ? sum_exp<true>(row, n, top.value) : sum_exp<false>(row, n, top.value);
  if (scale) {
    const F32 factor = splat(*scale / total);
    for_lanes(0, n, [&](std::int64_t c, auto lanes) {
      store(row + c, load(row + c, lanes) * factor, lanes);
    });
    row[target] -= *scale;
  }
  return {std::log(total) + (top.value - target_logit), top.index == target};
}

}  // namespace bert::cpu
