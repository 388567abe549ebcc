// --device, --precision and --threads of the programs that use a model, as runtime.device,
// runtime.precision and runtime.threads of a configuration.
#pragma once

#include <string>

#include "runtime/command_line.h"
#include "train/step/backend.h"

namespace bert {

// A PlaceOfKey.
inline std::string backend_option(std::string_view key) { return fmt::format("--{}", key); }

inline void add_backend_options(CommandLine& line, RuntimeConfig& runtime) {
  line.add_choice("--device", runtime.device, kDeviceChoices,
                  "what to compute on; auto: a GPU where there is one");
  line.add_choice(
      "--precision", runtime.precision, kPrecisions,
      "of the numbers; auto: bf16 on a GPU, fp32 on a CPU. tf32 and fp8 need a GPU; fp8 is "
      "bf16 with the products of the encoder in 8 bits; fp64 is the slow reference on a CPU, for "
      "small models");
  line.add("--threads", runtime.threads,
           "threads of a CPU; default: one for each processor that it may use")
      .range(1, 4096);
}

}  // namespace bert
