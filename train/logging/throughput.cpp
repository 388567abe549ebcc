#include "train/logging/throughput.h"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/plural.h"
#include "train/logging/number_text.h"

namespace bert {

std::string Throughput::line(std::int64_t texts, std::int64_t tokens) const {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
  const double seconds = std::max(elapsed.count(), 1e-9);
  return fmt::format("{}, {} tokens in {:.1f} s: {} texts/s, {} tokens/s", plural(texts, "text"),
                     tokens, seconds, format_rate(static_cast<double>(texts) / seconds),
                     format_rate(static_cast<double>(tokens) / seconds));
}

}  // namespace bert
