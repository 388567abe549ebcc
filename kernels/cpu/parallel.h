// Static work sharing: the same partition for the same number of threads, so results do not depend
// on timing.
#pragma once

#include <cstdint>

#include <omp.h>

namespace bert::cpu {

struct Range {
  std::int64_t begin = 0, end = 0;
};

// The share of thread `thread` of n items, in multiples of `grain`.
inline Range share(std::int64_t n, int thread, int threads, std::int64_t grain = 1) {
  const std::int64_t grains = (n + grain - 1) / grain;
  const std::int64_t begin = grains * thread / threads * grain;
  const std::int64_t end = grains * (thread + 1) / threads * grain;
  return {begin < n ? begin : n, end < n ? end : n};
}

// Runs body(thread) once on each of `threads` threads. The body must not throw.
template <typename Body>
inline void on_threads(int threads, Body&& body) {
  if (threads == 1) {
    body(0);
    return;
  }
#pragma omp parallel num_threads(threads)
  body(omp_get_thread_num());
}

// Runs body(i) for each i in [0, n), handed out one by one. Only for work whose results do not
// depend on which thread does it.
template <typename Body>
inline void for_each_dynamic(int threads, std::int64_t n, Body&& body) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (std::int64_t i = 0; i < n; ++i) body(i, omp_get_thread_num());
}

}  // namespace bert::cpu
