// What of a training run a GPU records, once, and then repeats (Device::run_recorded).
#pragma once

#include <functional>
#include <set>

#include "runtime/device.h"

namespace bert {

enum Recording : int {
  kMicroBatch,      // forward, loss and backward
  kLastMicroBatch,  // the same, with gradients setting out for the other ranks as they are ready
  kUpdate,          // of the parameters
  kEvaluation,      // forward and loss
  kRecordings,      // how many there are
};

class Recordings {
 public:
  // Without `record` work is always queued afresh. `device` is kept by reference.
  Recordings(Device& device, bool record) : device_(device), record_(record) {}

  // Does what f queues. `size`: DeviceBatch::size(), where the work depends on it; each size is
  // recorded by itself, at its second time: what grows or is chosen at a first use is then there.
  void run(Recording kind, int size, const std::function<void()>& f) {
    const int key = size * kRecordings + kind;
    const bool known = !ran_.insert(key).second;
    if (!record_ || !known || size >= kMostSizes) return f();
    device_.run_recorded(key, f);
  }

 private:
  static constexpr int kMostSizes = 32;  // a record takes memory

  Device& device_;
  bool record_;
  std::set<int> ran_;
};

}  // namespace bert
