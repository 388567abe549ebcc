// --device, --precision and --threads of the programs that use a model, as runtime.device,
// runtime.precision and runtime.threads of a configuration.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "train/step/backend.h"

namespace bert {

// A PlaceOfKey.
inline std::string backend_option(std::string_view key) { return fmt::format("--{}", key); }

namespace detail {

template <typename Enum, std::size_t N>
void add_choice(CLI::App& app, const std::string& name, Enum& choice, const Named<Enum> (&table)[N],
                const std::string& meaning) {
  std::vector<std::string> names;
  for (const auto& [value, known] : table) names.emplace_back(known);
  app.add_option_function<std::string>(
         name,
         [&choice, &table, name](const std::string& given) {
           choice = parse_name(table, given, name);
         },
         meaning)
      ->check(CLI::IsMember(names))
      ->default_str(std::string(name_of(table, choice)));
}

}  // namespace detail

inline void add_backend_options(CLI::App& app, RuntimeConfig& runtime) {
  detail::add_choice(app, "--device", runtime.device, kDeviceChoices,
                     "what to compute on; auto: a GPU where there is one");
  detail::add_choice(
      app, "--precision", runtime.precision, kPrecisions,
      "of the numbers; auto: bf16 on a GPU, fp32 on a CPU. tf32 and fp8 need a GPU; fp8 is "
      "bf16 with the products of the encoder in 8 bits; fp64 is the slow reference on a CPU, for "
      "small models");
  app.add_option("--threads", runtime.threads,
                 "threads of a CPU; default: one for each processor that it may use")
      ->check(CLI::Range(1, 4096));
}

}  // namespace bert
