// StepProfile: where the time of a run's steps goes, op by op (runtime.profile).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/profile/ceilings.h"
#include "train/profile/timed_ops.h"

namespace bert {

class StepProfile {
 public:
  // `ops`, kept by reference, is what the steps compute with.
  StepProfile(TimedOps& ops, const Ceilings& ceilings) : ops_(ops), ceilings_(ceilings) {}

  // While it lives, what the ops do belongs to a step. Null: nothing is watched.
  class Watch {
   public:
    explicit Watch(StepProfile* profile) : profile_(profile) {
      if (profile_ != nullptr) profile_->ops_.watch();
    }
    ~Watch() {
      if (profile_ != nullptr) profile_->ops_.look_away();
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;

   private:
    StepProfile* profile_;
  };

  // The step whose ops were watched is done, and took so long altogether. The first one, which
  // allocates and chooses products, counts only if it is the last.
  void step_took(double seconds);

  // A line for each op, the slowest first, then "all ops", "outside the ops" and "a step": what
  // all of them take. Empty without a step.
  std::string table() const;

 private:
  struct Steps {
    std::int64_t number = 0;
    double seconds = 0.0;
    OpTimes ops;
  };
  static std::string table_of(const Steps& steps, const Ceilings& ceilings);

  TimedOps& ops_;
  Ceilings ceilings_;
  std::optional<Steps> first_;
  std::int64_t number_ = 0;  // of steps after it
  double seconds_ = 0.0;     // of those
};

}  // namespace bert
