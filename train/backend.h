// Backend: where a program computes, chosen from `runtime.*` of the configuration.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/ops.h"
#include "runtime/communicator.h"
#include "runtime/device.h"
#include "train/config.h"

namespace bert {

struct Backend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
  int threads = 1;

  std::string description() const;  // "CPU, fp32, 2 threads"
};

// Precision auto is fp32 on a CPU; fp64 computes with the reference, for small models only.
// Threads auto: this machine's processors shared among its ranks.
Backend make_backend(const RuntimeConfig& config, const Communicator& communicator);
// For the tools: one process, everything automatic.
Backend make_backend(Precision precision = Precision::automatic,
                     std::optional<std::int64_t> threads = std::nullopt);

}  // namespace bert
