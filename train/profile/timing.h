// How long work on a device takes.
#pragma once

#include <chrono>

#include "runtime/device.h"

namespace bert {

// Seconds from its begin until all work that was queued is done.
template <typename Work>
double seconds_of(Device& device, Work&& work) {
  device.synchronize();
  const auto begin = std::chrono::steady_clock::now();
  work();
  device.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Seconds that `work` takes: the fastest of `repeats` after one that is not counted. A GPU is given
// it `queued` times in a row, so that the time to queue it does not show.
template <typename Work>
double fastest_seconds(Device& device, int repeats, int queued, Work&& work) {
  work();
  double fastest = 1e30;
  for (int i = 0; i < repeats; ++i) {
    const double seconds = seconds_of(device,
                                      [&] {
                                        for (int k = 0; k < queued; ++k) work();
                                      }) /
                           queued;
    if (seconds < fastest) fastest = seconds;
  }
  return fastest;
}

}  // namespace bert
