#include "train/stop_signals.h"

#include <cerrno>
#include <cstdint>
#include <vector>

#include <unistd.h>

#include "runtime/error.h"

namespace bert {
namespace {

volatile std::sig_atomic_t last_signal = 0, seen_by_a_user = 0;

void note(int number) {
  last_signal = number;
  constexpr char kHeard[] = "\nfinishing the step, then a checkpoint; Ctrl-C again ends at once\n";
  if (number == SIGINT && seen_by_a_user != 0) {
    const int error = errno;
    (void)!::write(STDERR_FILENO, kHeard, sizeof kHeard - 1);
    errno = error;
  }
}

}  // namespace

StopSignals::StopSignals() {
  last_signal = 0;
  seen_by_a_user = ::isatty(STDERR_FILENO);
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    BERT_CHECK(::sigaction(kSignals[i], nullptr, &before_[i]) == 0);
    if (kSignals[i] == SIGHUP && before_[i].sa_handler == SIG_IGN) continue;  // nohup
    struct sigaction action {};
    action.sa_handler = kSignals[i] == SIGPIPE ? SIG_IGN : note;
    // Reading and writing go on; after the first SIGINT the next does what it always does.
    action.sa_flags = SA_RESTART;
    if (kSignals[i] == SIGINT) action.sa_flags |= static_cast<int>(SA_RESETHAND);
    BERT_CHECK(::sigaction(kSignals[i], &action, nullptr) == 0);
  }
}

StopSignals::~StopSignals() {
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    (void)::sigaction(kSignals[i], &before_[i], nullptr);
  }
}

int StopSignals::received() const { return last_signal; }

int StopSignals::received_by_any(Communicator& communicator) const {
  // At most one rank gets it as a rule; where several get different ones, all name the same.
  std::vector<std::int64_t> number{received()};
  communicator.all_reduce_max(number);
  return static_cast<int>(number[0]);
}

const char* signal_name(int number) {
  switch (number) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
    case SIGHUP:
      return "SIGHUP";
    default:
      return "a signal";
  }
}

}  // namespace bert
