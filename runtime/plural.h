// Numbers of things in messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace bert {

// "1 line", "2 lines".
inline std::string plural(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

// "every line", "every 2 lines".
inline std::string every(std::uint64_t count, std::string_view thing) {
  return count == 1 ? fmt::format("every {}", thing) : "every " + plural(count, thing);
}

}  // namespace bert
