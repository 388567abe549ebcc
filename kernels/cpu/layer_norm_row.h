// LayerNorm of one row that is in cache, forward and backward: shared by every op that has one.
#pragma once

#include <cmath>

#include "kernels/cpu/simd.h"

namespace bert::cpu {

struct RowStatistics {
  float mean, rstd;
};

// Biased variance by two passes; `total` is the sum of the row.
template <typename Real>
inline RowStatistics row_statistics(const Real* z, std::int64_t channels, F32 total,
                                    double epsilon) {
  const float mean = sum(total) / static_cast<float>(channels);
  F32 squares{};
  for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
    const F32 centred = keep_lanes(load(z + c, lanes) - splat(mean), lanes);
    squares += centred * centred;
  });
  const double variance = static_cast<double>(sum(squares)) / static_cast<double>(channels);
  return {mean, static_cast<float>(1.0 / std::sqrt(variance + epsilon))};
}

// gamma * (z - mean) * rstd + beta, kLanes channels from c on.
template <typename Real, typename Lanes>
inline F32 normalized(const Real* z, const float* gamma, const float* beta, std::int64_t c,
                      RowStatistics row, Lanes lanes) {
  const F32 x_hat = (load(z + c, lanes) - splat(row.mean)) * splat(row.rstd);
  return x_hat * load(gamma + c, lanes) + load(beta + c, lanes);
}

// The two means over a row that the gradient needs, with x_hat = (z - mean) * rstd:
// first = mean(dy * gamma), second = mean(dy * gamma * x_hat). dgamma and dbeta get their share.
// dz = rstd * (dy * gamma - first - x_hat * second).
struct RowGradientMeans {
  float first, second;
};
// `dy_at(c, lanes)` gives dy.
template <typename Dy, typename Real>
inline RowGradientMeans row_gradient_means(Dy&& dy_at, const Real* z, const float* gamma,
                                           std::int64_t channels, RowStatistics row, float* dgamma,
                                           float* dbeta) {
  F32 first{}, second{};
  for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
    const F32 dy = dy_at(c, lanes);
    const F32 x_hat = (load(z + c, lanes) - splat(row.mean)) * splat(row.rstd);
    store(dgamma + c, load(dgamma + c, lanes) + dy * x_hat, lanes);
    store(dbeta + c, load(dbeta + c, lanes) + dy, lanes);
    const F32 dx_hat = dy * load(gamma + c, lanes);  // zero in the lanes without elements
    first += dx_hat;
    second += dx_hat * x_hat;
  });
  const auto n = static_cast<float>(channels);
  return {sum(first) / n, sum(second) / n};
}

template <typename Real, typename Lanes>
inline F32 row_gradient(F32 dy, const Real* z, const float* gamma, std::int64_t c,
                        RowStatistics row, RowGradientMeans means, Lanes lanes) {
  const F32 x_hat = (load(z + c, lanes) - splat(row.mean)) * splat(row.rstd);
  return splat(row.rstd) *
         (dy * load(gamma + c, lanes) - splat(means.first) - x_hat * splat(means.second));
}

}  // namespace bert::cpu
