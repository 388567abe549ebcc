#include "train/profile/utilisation.h"

#include <map>

namespace bert {

double necessary_flop(const BertConfig& config, double tokens, double squared_lengths,
                      double masked) {
  const auto C = static_cast<double>(config.hidden_size);
  const auto I = static_cast<double>(config.intermediate_size);
  const double of_layer = tokens * 2.0 * (4.0 * C * C + 2.0 * C * I) + squared_lengths * 4.0 * C;
  const double of_masked = 2.0 * (C * C + C * static_cast<double>(config.vocab_size));
  return 3.0 * (static_cast<double>(config.num_hidden_layers) * of_layer + masked * of_masked);
}

std::optional<double> peak_flop_per_second(const std::string& device,
                                           const std::string& precision) {
  struct Peaks {
    const char* name;  // a part of the device's
    std::map<std::string, double> tera;
  };
  // The variants on cards (PCIe, NVL) are slower and not listed.
  static const Peaks kTable[] = {
      {"H100 80GB HBM3", {{"fp8", 1979.0}, {"bf16", 989.0}, {"tf32", 494.7}, {"fp32", 67.0}}},
      {"NVIDIA H200", {{"fp8", 1979.0}, {"bf16", 989.0}, {"tf32", 494.7}, {"fp32", 67.0}}},
      {"A100", {{"bf16", 312.0}, {"tf32", 156.0}, {"fp32", 19.5}}},
  };
  for (const Peaks& peaks : kTable) {
    if (device.find(peaks.name) == std::string::npos) continue;
    if (device.find("NVL") != std::string::npos) return std::nullopt;
    const auto found = peaks.tera.find(precision);
    if (found != peaks.tera.end()) return found->second * 1e12;
  }
  return std::nullopt;
}

}  // namespace bert
