// --device, --precision and --threads of the programs that use a model, as runtime.device,
// runtime.precision and runtime.threads of a configuration. Give make_backend the keys
// kBackendOptionKeys.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "train/backend.h"

namespace bert {

inline constexpr const char* kBackendOptionKeys = "--";

namespace detail {

template <typename Choice>
void add_choice(CLI::App& app, const std::string& name, Choice& choice,
                const std::vector<Choice>& choices, std::string_view (*name_of)(Choice),
                const std::string& meaning) {
  std::vector<std::string> names;
  for (const Choice each : choices) names.emplace_back(name_of(each));
  app.add_option_function<std::string>(
         name,
         [&choice, choices, names](const std::string& given) {
           const auto found = std::find(names.begin(), names.end(), given);
           choice = choices[static_cast<std::size_t>(found - names.begin())];
         },
         meaning)
      ->check(CLI::IsMember(names))
      ->default_str(std::string(name_of(choice)));
}

}  // namespace detail

inline void add_backend_options(CLI::App& app, RuntimeConfig& runtime) {
  detail::add_choice<DeviceChoice>(app, "--device", runtime.device,
                                   {DeviceChoice::automatic, DeviceChoice::cpu, DeviceChoice::cuda},
                                   device_choice_name,
                                   "what to compute on; auto: a GPU where there is one");
  detail::add_choice<Precision>(
      app, "--precision", runtime.precision,
      {Precision::automatic, Precision::fp64, Precision::fp32, Precision::tf32, Precision::bf16,
       Precision::fp8},
      precision_name,
      "of the numbers; auto: bf16 on a GPU, fp32 on a CPU. tf32 and fp8 need a GPU; fp8 is "
      "bf16 with the products of the encoder in 8 bits; fp64 is the slow reference on a CPU, for "
      "small models");
  app.add_option("--threads", runtime.threads,
                 "threads of a CPU; default: one for each processor that it may use")
      ->check(CLI::Range(1, 4096));
}

}  // namespace bert
