// Signals that ask a run to come to an end: from a scheduler (SIGTERM, SIGUSR1), a keyboard
// (SIGINT) or a terminal that is closed (SIGHUP). The run finishes its step, writes a checkpoint
// and ends with exit code 0. And one that must not end it: SIGPIPE, where nobody reads any more
// what it prints.
#pragma once

#include <csignal>
#include <iterator>

#include "runtime/communicator.h"

namespace bert {

class StopSignals {
 public:
  // From here on the four are noted, but SIGHUP where it was ignored (nohup), and SIGPIPE is
  // ignored. A second SIGINT ends the process at once; on a terminal the first one says so.
  StopSignals();
  // As before.
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // The number of the last that came, or 0.
  int received() const;
  // The same for whichever rank it came to; all call it, and get the same.
  int received_by_any(Communicator& communicator) const;

 private:
  static constexpr int kSignals[] = {SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGPIPE};
  struct sigaction before_[std::size(kSignals)];
};

// "SIGTERM"
const char* signal_name(int number);

}  // namespace bert
