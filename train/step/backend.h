// Backend: where a program computes, chosen from `runtime.*` of the configuration.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"
#include "runtime/communicator.h"
#include "runtime/device.h"
#include "train/config/config_sections.h"
#include "train/profile/step_profile.h"

namespace bert {

// No more threads than these have something to do, and each costs a little.
inline constexpr int kReproducibleParts = 8;

struct Backend {
  std::unique_ptr<Device> device;
  std::unique_ptr<Ops> ops;
  Precision precision = Precision::fp32;  // never auto
  int threads = 1;                        // that compute; one on a GPU
  // Products chosen by measuring, on a GPU (kernels/cuda_module.h); empty otherwise.
  std::function<std::string()> product_choices;
  std::function<bool(const std::string&)> set_product_choices;
  std::function<void()> stop_choosing_products;
  std::unique_ptr<StepProfile> profile;  // with runtime.profile, of steps computed with `ops`
  std::string why_cpu;                   // under auto, when there is no GPU to use

  std::string description() const;  // "cpu f32 with avx2 instructions, 2 threads"
  // What ranks must have in common: "a GPU"; "cpu f32 with avx2 instructions", as each level rounds
  // in its own way.
  std::string kind() const { return device->is_cpu() ? ops->name() : "a GPU"; }
  // What a run must go on with to round as before: "cpu f32 with avx2 instructions", or a GPU's
  // name.
  std::string rounds_as() const { return device->is_cpu() ? ops->name() : device->name(); }
};

// How errors call the "device" or "precision" that was asked for: "a.yaml:9: runtime.device",
// "--device".
using PlaceOfKey = std::function<std::string(std::string_view key)>;

// Device auto: a GPU where there is one, else the CPU. Precision auto: bf16 on a GPU, fp32 on a
// CPU; fp64 computes with the reference, on a CPU, for small models only. Threads auto: the
// processors that this rank may use, shared among the ranks of its machine that may use some of
// them too. Each rank takes the GPU of its place on its machine. InputError when what is asked for
// is not here; RuntimeError when ranks find different things. `reproducible`: what is computed
// depends neither on the number of threads nor on what is fastest: on a CPU work is cut into
// kReproducibleParts, on a GPU products are not chosen by measuring. With runtime.profile what the
// machine reaches is measured at once, before others take its memory.
Backend make_backend(const RuntimeConfig& config, Communicator& communicator,
                     const PlaceOfKey& where, bool reproducible = false);
// One process, on the CPU.
Backend make_backend(Precision precision = Precision::automatic,
                     std::optional<std::int64_t> threads = std::nullopt);

// The processors that a rank can count on: those of its mask, shared among all whose masks have
// some of them, of which it is one. At least 1. Masks are of a bit for each processor of a machine.
int share_of_processors(const std::string& mask, const std::vector<std::string>& of_all);

}  // namespace bert
