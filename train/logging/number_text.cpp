#include "train/logging/number_text.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace bert {

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto total = static_cast<long long>(std::min(std::round(seconds), 1e15));
  const long long minutes = total / 60, hours = minutes / 60, days = hours / 24;
  if (days > 0) return fmt::format("{}d{:02}h", days, hours % 24);
  if (hours > 0) return fmt::format("{}h{:02}m", hours, minutes % 60);
  if (minutes > 0) return fmt::format("{}m{:02}s", minutes, total % 60);
  return fmt::format("{}s", total);
}

std::string format_rate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "?";
  if (per_second < 999.5) return fmt::format("{:.0f}", per_second);
  if (per_second < 99'950) return fmt::format("{:.1f}k", per_second / 1e3);
  if (per_second < 999'500) return fmt::format("{:.0f}k", per_second / 1e3);
  return fmt::format("{:.2f}M", per_second / 1e6);
}

std::string format_perplexity(double loss) {
  const double perplexity = std::exp(loss);
  if (!std::isfinite(perplexity)) return "-";
  if (perplexity < 99.95) return fmt::format("{:.1f}", perplexity);
  if (perplexity < 99'999.5) return fmt::format("{:.0f}", perplexity);
  return fmt::format("{:.1e}", perplexity);
}

std::string format_size(std::size_t bytes) {
  const auto number = static_cast<double>(bytes);
  if (bytes < 1'000'000'000) return fmt::format("{:.1f} MB", number / 1e6);
  return fmt::format("{:.2f} GB", number / 1e9);
}

}  // namespace bert
