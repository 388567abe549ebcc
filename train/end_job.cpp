#include "train/end_job.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "runtime/error.h"

namespace bert {

void end_job(Communicator& communicator, const std::exception& error) {
  if (!communicator.is_root()) std::this_thread::sleep_for(std::chrono::seconds(1));
  std::fprintf(stderr, "error: rank %d: %s\n", communicator.rank(), error.what());
  const auto* known = dynamic_cast<const Error*>(&error);
  const int exit_code = known != nullptr ? known->exit_code() : 1;
  communicator.abort(exit_code);
  std::_Exit(exit_code);  // for compilers that do not see that abort never returns
}

}  // namespace bert
