#include "train/backend.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

#include <sched.h>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/reference/reference_ops.h"
#include "runtime/error.h"

namespace bert {
namespace {

// The processors this process may use: fewer than the machine's under taskset or in a container.
int available_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const int processors = ::sched_getaffinity(0, sizeof set, &set) == 0
                             ? CPU_COUNT(&set)
                             : static_cast<int>(std::thread::hardware_concurrency());
  // A container's share: "QUOTA PERIOD" in microseconds, or "max PERIOD".
  std::ifstream limit("/sys/fs/cgroup/cpu.max");
  double quota = 0.0, period = 0.0;
  if (limit >> quota >> period && period > 0.0) {
    return std::clamp(static_cast<int>(std::ceil(quota / period)), 1, std::max(1, processors));
  }
  return std::max(1, processors);
}

Backend make(Precision precision, std::optional<std::int64_t> threads, int local_size) {
  Backend backend;
  backend.device = make_cpu_device();
  // mpirun may already have bound each rank to its own processors; then they are not shared again.
  const int processors = available_processors();
  const int share = local_size > 1 ? std::max(1, processors / local_size) : processors;
  backend.threads = static_cast<int>(threads.value_or(share));
  if (precision == Precision::fp64) {
    backend.threads = 1;
    backend.ops = make_reference_ops(DType::f64);
  } else if (precision == Precision::fp32 || precision == Precision::automatic) {
    backend.ops = make_cpu_ops(backend.threads);
  } else {
    throw_input_error("runtime.precision: {} is not available in this build; use fp32 or auto",
                      precision_name(precision));
  }
  return backend;
}

}  // namespace

std::string Backend::description() const {
  return fmt::format("{}, {}, {} thread{}", device->name(), ops->name(), threads,
                     threads == 1 ? "" : "s");
}

Backend make_backend(const RuntimeConfig& config, const Communicator& communicator) {
  return make(config.precision, config.threads, communicator.local_size());
}

Backend make_backend(Precision precision, std::optional<std::int64_t> threads) {
  return make(precision, threads, 1);
}

}  // namespace bert
