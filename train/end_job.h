// The end of a job of several ranks when one of them fails.
#pragma once

#include <exception>

#include "runtime/communicator.h"

namespace bert {

// Ends the job of a rank that failed, with its message. What is wrong is mostly wrong on every rank
// alike: rank 0 speaks first, and its abort ends the others. A rank that fails alone speaks for
// itself a moment later.
[[noreturn]] void end_job(Communicator& communicator, const std::exception& error);

// f(), and where it throws on one of several ranks, the end of the job: before anything that f
// knows is taken down, as a GPU may be waiting for ranks that will not come any more. What is
// thrown on a single rank is passed on.
template <typename F>
decltype(auto) or_end_job(Communicator& communicator, const F& f) {
  try {
    return f();
  } catch (const std::exception& error) {
    if (communicator.size() > 1) end_job(communicator, error);
    throw;
  }
}

}  // namespace bert
