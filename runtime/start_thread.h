// Threads that say it in words when the system has none to give.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "runtime/error.h"

namespace bert {

// A thread that does `body`; RuntimeError if it cannot be started.
template <typename Body>
std::jthread start_thread(Body body) {
  try {
    return std::jthread(std::move(body));
  } catch (const std::system_error& error) {
    throw_runtime_error(
        "cannot start a thread: {}; give fewer threads, or see what limits processes and memory",
        error.code().message());
  }
}

}  // namespace bert
