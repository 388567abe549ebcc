// The implementations of kernels/ops.h that this build can test, all in one process.
//
// A new backend is one entry in backends.cpp, or a BackendRegistration in a source of its own that
// some programs are linked with (tests/simt/simt_backends.cpp); every op test then runs on it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert::test {

struct Backend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
  std::shared_ptr<void>
      keeper{};  // goes first, and keeps something of the ops for the next of them
};

struct BackendEntry {
  std::string name;  // letters, digits and underscores: part of a test's name
  std::function<Backend()> make;
  // Makes the timing of all that follows another one, or with 0 what it was. Without it, timing is
  // left to chance, and a test that looks for its influence repeats itself.
  std::function<void(int timing)> set_timing{};
  bool fp8 = false;  // its products are in FP8 where an op allows it (kernels/ops.h)
};

// f64, single-threaded, the oracle.
Backend reference_backend();

// All backends that can run here and now, the oracle first.
const std::vector<BackendEntry>& available_backends();

// Adds a backend that only some programs link: an object of namespace scope in one of their
// sources.
struct BackendRegistration {
  explicit BackendRegistration(BackendEntry entry);
};

// Kinds of backends that exist but cannot run here, with the reason ("no CUDA device").
struct MissingBackend {
  std::string name;
  std::string reason;
  std::string require_variable;  // set in the environment: missing is a failure, not a SKIP
};
const std::vector<MissingBackend>& missing_backends();

}  // namespace bert::test
