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
  static constexpr std::size_t kMost = 32;  // a recording takes memory

  // Without `record` work is always queued afresh. `device` is kept by reference.
  Recordings(Device& device, bool record) : device_(device), record_(record) {}

  // Does what f queues. `layout`: DeviceBatch::layout(), where the work depends on it; each is
  // recorded by itself, at its second time: what grows or is chosen at a first use is then there.
  void run(Recording kind, int layout, const std::function<void()>& f) {
    const int key = layout * kRecordings + kind;
    const bool ran_before = !ran_.insert(key).second;
    if (!record_ || !ran_before || !has_room_for(key)) return f();
    device_.run_recorded(key, f);
  }
  // Frees the recordings of the device, since other layouts come from now on.
  void forget() {
    recorded_.clear();
    device_.forget_recordings();
  }

 private:
  bool has_room_for(int key) {
    if (recorded_.size() < kMost) recorded_.insert(key);
    return recorded_.contains(key);
  }

  Device& device_;
  bool record_;
  std::set<int> ran_, recorded_;
};

}  // namespace bert
