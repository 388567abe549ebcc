// Static work sharing: the same partition for the same number of parts, so results do not depend on
// timing. There are as many parts as threads, unless results must not depend on the threads either.
#pragma once

#include <cstdint>

#include <omp.h>

#include "kernels/cpu/flush_denormals.h"

namespace bert::cpu {

struct Range {
  std::int64_t begin = 0, end = 0;
};

// Work is cut into `parts`, which decide how sums are rounded, and done by `threads`, which do not.
struct Team {
  int parts = 1, threads = 1;

  Team() = default;
  Team(int size) : parts(size), threads(size) {}  // NOLINT: a part for each thread
  Team(int of_parts, int of_threads)
      : parts(of_parts), threads(of_threads < of_parts ? of_threads : of_parts) {}
};

// The share of part `part` of n items, in multiples of `grain`.
inline Range share(std::int64_t n, int part, int parts, std::int64_t grain = 1) {
  const std::int64_t grains = (n + grain - 1) / grain;
  const std::int64_t begin = grains * part / parts * grain;
  const std::int64_t end = grains * (part + 1) / parts * grain;
  return {begin < n ? begin : n, end < n ? end : n};
}

// Runs body(part) once for each part. The body must not throw.
template <typename Body>
inline void on_parts(Team team, Body&& body) {
  if (team.threads == 1) {
    const FlushDenormals flush;
    for (int part = 0; part < team.parts; ++part) body(part);
    return;
  }
#pragma omp parallel for schedule(static) num_threads(team.threads)
  for (int part = 0; part < team.parts; ++part) {
    const FlushDenormals flush;  // each thread has its own setting
    body(part);
  }
}

// Runs body(i) for each i in [0, n), handed out one by one. Only for work whose results do not
// depend on which thread does it.
template <typename Body>
inline void for_each_dynamic(int threads, std::int64_t n, Body&& body) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t i = 0; i < n; ++i) {
    const FlushDenormals flush;
    body(i, omp_get_thread_num());
  }
}

}  // namespace bert::cpu
